"""What the papers claim of their flows, held against the records at hand. No torch."""
