"""All runs of a folder as one flat table. No torch."""
