"""How the mathematics is run fast."""
