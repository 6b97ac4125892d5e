"""The published numbers of ``published.toml``, one entry a model and dataset. Never imports torch."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal, get_args

Density = Literal["exact", "estimated"]

_KEYS = {"label", "flow", "transforms", "source", "density", "estimated_by", "secondhand"}
_KEYS |= {"nats", "conditional_nats", "bits_per_pixel"}


@dataclass(frozen=True)
class Published:
    """One published test log-likelihood: mean nats and two standard errors over the test rows, in the data's space.

    ``flow`` and ``transforms`` say which flow of flowbench is the same model, ``conditional`` whether the density was
    given the class label (then it is no match for an unconditional one), ``source`` where the number is from.

    ``density``: "exact" where the model gives log p(x) itself, "estimated" where importance sampling, an ODE solver or
    a ratio stands in for it, as ``estimated_by`` says (None for an exact one). ``secondhand``: the number was not read
    in a paper of those who report it but in another's table, in a repository's README, or remembered.

    Raises:
        ValueError: ``density`` is neither word, or an estimated one does not say by what, or an exact one does.
    """

    data: str
    model: str
    flow: str | None
    transforms: int | None
    conditional: bool
    test_ll_nats: float
    two_stderr_nats: float | None
    bits_per_pixel: float | None
    source: str
    density: Density = "exact"
    estimated_by: str | None = None
    secondhand: bool = False

    def __post_init__(self) -> None:
        if self.density not in get_args(Density):
            raise ValueError(f"{self.model}: a density is {' or '.join(get_args(Density))}, not {self.density!r}")
        if (self.density == "estimated") != bool(self.estimated_by):
            raise ValueError(f"{self.model}: an estimated density says by what, and no other does")


@dataclass(frozen=True)
class Shape:
    """The data that the numbers hold for: its columns, its test rows; ``decimals`` is how they are printed.

    ``note`` is for whoever sets a run beside them.
    """

    dim: int
    n_test: int
    decimals: int
    note: str = ""


def published(data: str) -> list[Published]:
    """All entries for a dataset, conditional ones too; none for data without published numbers.

    The exact ones come first, best first, then the estimated ones, best first: the two are not ranked against each
    other.
    """
    found = [entry for entry in _entries() if entry.data == data]
    return sorted(found, key=lambda entry: (entry.density != "exact", -entry.test_ll_nats, entry.model))


def best(data: str) -> Published | None:
    """The highest entry with an exact density and no class label, second-hand ones too; None where there is none."""
    return next((entry for entry in published(data) if entry.density == "exact" and not entry.conditional), None)


def published_shape(data: str) -> Shape | None:
    """The shape of the published data of that name; None where there is none."""
    shape = _document()["data"].get(data)
    return Shape(**shape) if shape else None


def unlabelled(data: str) -> str:
    """The published data that labelled rows are of: a flow may be given their labels, its rows then have their name."""
    return data.removesuffix("-given-label")


@dataclass(frozen=True)
class PublishedPosterior:
    """A posterior's published bound and estimate of log p(x): of each the mean and the standard deviation over runs."""

    label: str
    data: str
    source: str
    bound_nats: tuple[float, float]
    log_likelihood_nats: tuple[float, float]


def published_posteriors(data: str) -> list[PublishedPosterior]:
    """All entries for a dataset, the best bound first."""
    document = _document()
    found = [
        PublishedPosterior(
            entry["label"],
            entry["data"],
            document["sources"][entry["source"]],
            tuple(entry["bound_nats"]),
            tuple(entry["log_likelihood_nats"]),
        )
        for entry in document["posterior"]
        if entry["data"] == data
    ]
    return sorted(found, key=lambda entry: -entry.bound_nats[0])


@cache
def _document() -> dict[str, Any]:
    return tomllib.loads(files("flowbench.results").joinpath("published.toml").read_text(encoding="utf-8"))


@cache
def _entries() -> tuple[Published, ...]:
    return entries(_document())


def entries(document: dict[str, Any]) -> tuple[Published, ...]:
    """All entries of a document like ``published.toml``, in its order.

    Raises:
        ValueError: a model has a key, a dataset or a source that is none, or two models share a label, or a density is
            not described as ``Published`` has it.
    """
    labels = [model["label"] for model in document["model"]]
    if len(set(labels)) < len(labels):
        raise ValueError(f"a label stands for one model: {', '.join(sorted(labels))}")
    return tuple(entry for model in document["model"] for entry in _of_model(model, document))


def _of_model(model: dict[str, Any], document: dict[str, Any]) -> Iterator[Published]:
    # a misspelt key would otherwise leave its default in force: a second-hand number would pass for a first-hand one
    _known(model, _KEYS, model)
    _known(model, document["sources"], [model["source"]])
    for table in ("nats", "conditional_nats", "bits_per_pixel"):
        _known(model, document["data"], model.get(table, {}))
    for conditional, table in ((False, "nats"), (True, "conditional_nats")):
        for data, figures in model.get(table, {}).items():
            yield Published(
                data=data,
                model=model["label"],
                flow=model.get("flow"),
                transforms=model.get("transforms"),
                conditional=conditional,
                test_ll_nats=float(figures[0]),
                two_stderr_nats=float(figures[1]) if len(figures) > 1 else None,
                bits_per_pixel=None if conditional else model.get("bits_per_pixel", {}).get(data),
                source=document["sources"][model["source"]],
                density=model.get("density", "exact"),
                estimated_by=model.get("estimated_by"),
                secondhand=model.get("secondhand", False),
            )


def _known(model: dict[str, Any], known: Iterable[str], names: Iterable[str]) -> None:
    if unknown := sorted(set(names) - set(known)):
        raise ValueError(f"{model['label']}: there is no {', '.join(unknown)}; there are: {', '.join(sorted(known))}")
