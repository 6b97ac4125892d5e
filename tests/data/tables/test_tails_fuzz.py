"""Columns of any size and sign with any transforms: finite rows and their way back, or a refusal by name."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowbench.data.tables.options import TableOptions
from flowbench.errors import DataError, UsageError
from flowbench.flows.core.density import _transform
from flowbench.use.preparing import prepare

COLUMNS = st.tuples(
    st.sampled_from(["normal", "cauchy", "lognormal", "steps", "zeros", "constant", "extreme"]),
    st.sampled_from([1e-300, 1e-30, 1.0, 1e12, 1e300]),
    st.sampled_from([0.0, 0.0, 1.0, -5.0, 1e15]),
    st.sampled_from([None, "log", "asinh"]),
)


def drawn(random: np.random.Generator, kind: str, n: int) -> np.ndarray:
    match kind:
        case "normal":
            return random.normal(size=n)
        case "cauchy":
            return random.standard_cauchy(n)
        case "lognormal":
            return random.lognormal(0, random.uniform(0, 30), n)
        case "steps":
            return np.floor(random.lognormal(1, 2, n))
        case "zeros":
            return np.where(random.random(n) < 0.7, 0.0, random.lognormal(0, 5, n))
        case "constant":
            return np.ones(n)
    return random.choice([-1.7e308, -1.0, 1e-308, 5e-324, 2.0, 1.7e308], n) * random.random(n)


@given(
    st.integers(0, 2**32 - 1), st.integers(1, 300), st.lists(COLUMNS, min_size=1, max_size=5), st.booleans(),
    st.booleans(),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_rows_are_finite_and_come_back_or_are_refused_by_name(
    seed: int, n: int, columns: list[tuple[str, float, float, str | None]], found: bool, ties: bool
) -> None:
    random = np.random.default_rng(seed)
    with np.errstate(all="ignore"):
        rows = np.stack([drawn(random, kind, n) * scale + offset for kind, scale, offset, _ in columns], axis=1)
    names = [f"c{i}" for i in range(len(columns))]
    by = {name: transform for name, (*_, transform) in zip(names, columns, strict=True) if transform}
    kept = np.flatnonzero(random.random(n) < 0.9)
    options = TableOptions(column_transforms=by, tails_found=found, dequantise=True, found=not ties,
                           allow_ties=("all",) if ties else ())  # fmt: skip
    if not kept.size:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            prepared = prepare(names, rows, 0, (), options, kept, np.random.RandomState(0))
    except (DataError, UsageError) as refused:
        words = str(refused)
    else:
        words = ""
        assert np.isfinite(prepared.rows.astype(np.float32)).all()
        if prepared.discrete is None:
            u, terms = _transform(prepared.preprocessing[0]).forward(torch.from_numpy(rows))
            for step in prepared.preprocessing[1:]:
                u, more = _transform(step).forward(u)
                terms = terms + more
            assert u.isfinite().all()
            assert terms.isfinite().all()
    assert not words or words.startswith("X")
