"""``python -m flowbench``."""

from flowbench.cli.app import main

main()
