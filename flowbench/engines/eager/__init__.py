"""The engine that runs every plan on every device, in torch's calls."""
