"""``python -m flowbench``."""

from flowbench.cli import main

main()
