"""Figures as cells."""

import pytest

from flowbench.report import layout


def test_decimal_points_stand_below_each_other():
    cells = layout.aligned([layout.Figure(-1.234, 0.0123), layout.Figure(10.5, 0.5, 1), layout.Figure(3.0, None)])
    assert cells == ("-1.234 ± 0.012", "10.5   ± 0.5  ", " 3.000        ")


def test_errors_get_two_digits_and_blanks_stay_blank():
    assert layout.aligned([layout.Figure(-1302.34, 1.71), layout.Figure(None, None)]) == ("-1302.3 ± 1.7", "")
    assert layout.aligned([layout.Figure(2367.0, 29.0)]) == ("2367 ± 29",)


@pytest.mark.parametrize(
    ("seconds", "said"), [(None, ""), (3.21, "3.2 s"), (77.3, "77 s"), (600.0, "10 min"), (9000.0, "2.5 h")]
)
def test_durations(seconds, said):
    assert layout.duration(seconds) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, ""), (0.0, "0"), (0.01234, "0.0123"), (1.234, "1.23"), (99.96, "100.0"), (17455, "17,455")],
)
def test_three_digits(value, said):
    assert layout.significant(value) == said
