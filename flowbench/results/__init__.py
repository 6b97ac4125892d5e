"""What a run leaves: its record, statistics of rows, published numbers. Never imports torch."""
