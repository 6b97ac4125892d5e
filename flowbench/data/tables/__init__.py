"""Tables that a user brings: read, profiled, split and standardised, and written."""
