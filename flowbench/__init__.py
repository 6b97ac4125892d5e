"""flowbench: how good a density can a normalizing flow learn of a table, and what does it cost?"""

__version__ = "0.1.0"
