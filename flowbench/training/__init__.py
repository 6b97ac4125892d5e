"""From a configuration to a trained flow and its record."""
