"""Runs ranked by likelihood, one table for each data, and the forms it is printed in. Never imports torch."""
