"""The longer commands; ``cli`` has them under their names. Heavy imports live inside their bodies."""
