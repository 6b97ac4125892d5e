"""Where the command begins: signals are handled before anything is imported that takes time."""

from flowbench import interrupts


def main() -> None:
    """The entry point of the command line."""
    interrupts.handle(starting=True)
    from flowbench.cli.app import main as begin

    begin()


if __name__ == "__main__":
    main()
