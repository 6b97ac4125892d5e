"""Posteriors and fits to targets: one at its end, and all of a folder beside each other. No torch."""
