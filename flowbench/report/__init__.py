"""Results set beside each other, for people. Never imports torch."""
