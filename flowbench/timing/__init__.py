"""What a density, a sample and a training step cost."""
