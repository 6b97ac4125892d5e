"""What is said to a terminal never steers it."""

from collections.abc import Callable

import pytest

from flowbench import console

HOSTILE = "a\x1b[2J\x9b1mb\x07[red]"


@pytest.mark.parametrize("say", [console.note, console.warn])
def test_names_with_escape_sequences_and_markup_are_shown_as_text(
    say: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    say(HOSTILE)
    assert capsys.readouterr().err.endswith(r"a\x1b[2J\x9b1mb\x07[red]" + "\n")


def test_what_is_printable_stays_as_it_is() -> None:
    assert console.printable("µ × 1\nLängе 長さ") == "µ × 1\nLängе 長さ"
    assert console.printable("\ud800") == r"\ud800"  # half of a character, as a damaged file name has it
