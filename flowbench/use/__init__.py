"""A trained density at work: scores and samples, in Python and of tables."""
