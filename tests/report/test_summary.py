"""What a run says at its end."""

import pytest
from records import full_record, make_record
from rich.console import Console

from flowbench.console import plural
from flowbench.report.summary import summary
from flowbench.results.record import Estimate


def shown(record):
    console = Console(width=200, color_system=None)
    with console.capture() as captured:
        console.print(summary(record))
    return captured.get()


def test_figures_are_said_with_their_errors():
    text = shown(full_record(test_ll_nats=Estimate(mean=1.5, stderr=0.25), test_ll_own_units_nats=-3.0))
    assert "1.500 ± 0.500 nats (standardised space)" in text
    assert "-3.000 nats" in text
    assert "1 of 1 passed" in text
    assert "photograph" not in text


def test_an_error_given_the_photographs_is_said_to_be_one():
    text = shown(make_record(test_ll_nats=Estimate(mean=1.5, stderr=0.25, stderr_by_group=1.0), test_groups=7))
    assert "± 2.000 nats; ± 2 s.e. is an error given the 7 photographs, or strips, that the rows are windows of" in text


def test_what_a_training_went_through_is_said():
    text = shown(full_record(epochs=3, train_seconds=1.5, train_rows_per_second=9.0))
    assert "without 2 rows beyond 10 standard deviations  0.250 nats" in text
    assert "3 epochs, best 2, 1.5 s, 9 rows/s, 1 return from what was not finite" in text
    assert "was broken off" in text
    assert "threads 2 before, 1 now" in text
    assert "broken off" not in shown(make_record(epochs=3, train_seconds=1.5, train_rows_per_second=9.0))


def test_what_is_not_finite_says_so():
    assert "not finite nats" in shown(make_record(test_ll_nats=Estimate(mean=float("inf"), stderr=float("nan"))))


def test_one_is_singular():
    text = shown(full_record(epochs=1, dim=1, given={}, density_passes=1, sampling_passes=1))
    assert "1 epoch, best" in text
    assert "rows of 1 column ·" in text
    assert text.count("1 pass ") == 2


@pytest.mark.parametrize(
    ("number", "noun", "said"),
    [(1, "epoch", "1 epoch"), (0, "thread", "0 threads"), (2, "pass", "2 passes"), (1234, "row", "1,234 rows")],
)
def test_a_plural(number, noun, said):
    assert plural(number, noun) == said


@pytest.mark.parametrize("name", ["[red]x[/red]", "[/]", "\x1b[31m"])
def test_names_are_shown_as_text(name):
    text = shown(make_record(flow=name, data=name, recipe=name, space=name, error=name))
    assert text.count(name.replace("\x1b", r"\x1b")) == 5
