"""Posteriors: one at its end, all of a folder beside the IAF paper's table. No torch."""
