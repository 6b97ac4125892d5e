"""A flow as scikit-learn's density estimators are: ``fit``, ``score_samples``, ``sample``."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from flowbench import flows
from flowbench.config import RunConfig, packaged_layers, resolve
from flowbench.data.discrete import Discrete
from flowbench.data.given import GivenColumn
from flowbench.data.tables.fitness import FEWEST_ROWS
from flowbench.data.tables.options import ALL, CATEGORY, TableOptions
from flowbench.errors import DataError, UsageError
from flowbench.flows import Flow
from flowbench.flows.core.density import Density, Float64
from flowbench.training.environment import resolve_device
from flowbench.training.loop import train
from flowbench.training.needs import room_to_train
from flowbench.training.state import Epoch, best_of
from flowbench.use.preparing import categories_of, coded, prepare, values_of

Indices = NDArray[np.int64]

_BUILDING = threading.Lock()
"""Weights are drawn from torch's one generator for the CPU: by one of the threads of a parallel search at a time."""


class FlowDensity(DensityMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """The density of rows, learnt by a normalizing flow.

    A part of the rows is held out; the others are standardised and train the flow by maximum likelihood, as
    ``flowbench train`` does, and the epoch that is best on the part held out is kept. Where a setting is None, it is
    what ``flowbench train`` takes.

    Parameters:
        flow: ``maf``, ``iaf``, ``realnvp``, ``gaussian``: what `flowbench list` names.
        transforms, hidden: the flow's size: transforms, and the units of each hidden layer, such as ``(100, 100)``.
        batch_size, learning_rate, max_epochs, max_seconds, patience: of the training; with ``max_seconds`` a fit
            depends on the machine's pace.
        options: other settings by name, all that ``--set`` takes: ``{"batch_norm": False, "log_scale_bound": None}``.
        validation_fraction: the share of the rows held out, between 0 and 1; one row at the least.
        dequantise: whether uniform noise, as wide as a column's step, is added to columns of whole numbers and to those
            with heavy ties, as ``flowbench train --dequantise`` does. A value's density is then taken in the middle of
            its step, and draws are rounded down to it. Without it there is a warning of whole numbers.
        kinds: what columns are, by their places in X or names: ``continuous``, ``whole`` (as with ``dequantise``),
            ``mixed`` (continuous but for values that many rows have, which are taken apart) or ``category``.
        bounds: (lower, upper) of columns, by their places or names, None where there is none; draws lie between them.
        column_transforms: what brings in the heavy tails of columns, by their places or names: ``log``, of numbers
            above 0, or ``asinh``; a UserWarning says where it may help.
        missing: ``refuse`` NaN, or model by an ``indicator`` whether a value is missing; draws have NaN, too.
        allow_ties: columns with heavy ties and no step, by their places or names, that are learnt all the same, or
            ``all``: the likelihood of such rows can grow without bound.
        given: columns of X, by index or by name, of numbers that are given and not modelled: the density is that of
            the others, conditional on them.
        device: where it trains: ``auto``, ``cpu``, ``cuda``, ``cuda:0``. What was fitted is kept on the CPU, so that a
            pickle of it can be read anywhere.
        random_state: of the rows held out, the weights, the batches. Torch's global generators are left as they were.

    Attributes:
        density_: the trained flow with its preprocessing, a `Density` in double precision: a
            row's density does not depend on the rows beside it.
        n_epochs_, best_epoch_: epochs trained, and which of them was kept; 0 where there is a closed form.
        validation_log_likelihood_: the mean log-density of the rows held out, in nats and the rows' own units.
        n_features_in_, feature_names_in_: as everywhere in scikit-learn.

    >>> import numpy as np
    >>> rows = np.random.default_rng(0).normal(size=(200, 2)) @ [[1.0, 0.5], [0.0, 2.0]]
    >>> density = FlowDensity("maf", hidden=16, max_epochs=3, random_state=0).fit(rows)
    >>> density.score_samples(rows[:5]).shape
    (5,)
    >>> density.sample(3).shape
    (3, 2)
    """

    def __init__(
        self,
        flow: str = "maf",
        *,
        transforms: int | None = None,
        hidden: Sequence[int] | int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        max_epochs: int | None = None,
        max_seconds: float | None = None,
        patience: int | None = None,
        options: Mapping[str, Any] | None = None,
        validation_fraction: float = 0.1,
        dequantise: bool = False,
        kinds: Mapping[int | str, str] | None = None,
        bounds: Mapping[int | str, tuple[float | None, float | None]] | None = None,
        column_transforms: Mapping[int | str, str] | None = None,
        missing: Literal["refuse", "indicator"] = "refuse",
        allow_ties: Sequence[int | str] | Literal["all"] = (),
        given: Sequence[int | str] = (),
        device: str = "auto",
        random_state: Any = None,
    ) -> None:
        self.flow = flow
        self.transforms = transforms
        self.hidden = hidden
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.max_epochs = max_epochs
        self.max_seconds = max_seconds
        self.patience = patience
        self.options = options
        self.validation_fraction = validation_fraction
        self.dequantise = dequantise
        self.kinds = kinds
        self.bounds = bounds
        self.column_transforms = column_transforms
        self.missing = missing
        self.allow_ties = allow_ties
        self.given = given
        self.device = device
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: object = None) -> FlowDensity:  # noqa: N803
        """Learn the density of the rows of X (N, D); ``y`` is ignored.

        Which rows have no density is for ``flowbench train`` to say, but that columns of whole numbers, on which a
        continuous density can grow without bound, only get a UserWarning here.

        Raises:
            ValueError: a setting that does not exist or has no such value; rows without a density (a constant column,
                too few of them).
            DivergedError: the training left the finite.
            ShortOfMemoryError: the flow and its training cannot fit into the memory that is available.
        """
        rows = self._validated(X, ensure_min_samples=2)
        random = check_random_state(self.random_state)
        try:
            config = self._config(seed=int(random.randint(2**31)))
            held_out, kept = self._split(len(rows), random)
            options = self._table_options()
            self._order, first, names = self._in_order(options)
            own = rows[:, self._order]
            classes = slice(first, first + sum(kind == CATEGORY for kind in options.kinds.values()))
            self._categories = categories_of(names[classes], own[:, classes], self.missing)
            own = self._coded(own)
            with _own_hint():
                found = prepare(names, own, first, self._categories, options, kept, random)
            parts = [torch.from_numpy(found.rows[part].astype(np.float32)) for part in (kept, held_out)]
            flow, epochs = _fit(config, parts, found.given, found.discrete)
        except (UsageError, DataError) as error:
            raise ValueError(f"{error}: {error.hint}" if error.hint else str(error)) from error
        self.density_ = Density(flow, found.preprocessing, found.given, found.discrete)
        self.n_epochs_ = len(epochs)
        best = best_of(epochs)
        self.best_epoch_ = best.number if best else 0
        self.validation_log_likelihood_ = float(self.density_.log_prob(own[held_out]).mean())
        return self

    def score_samples(self, X: ArrayLike) -> Float64:  # noqa: N803
        """The log-density (N,) of each row of X (N, D), in nats and the rows' own units."""
        check_is_fitted(self)
        return self.density_.log_prob(self._coded(self._validated(X, reset=False)[:, self._order]))

    def score(self, X: ArrayLike, y: object = None) -> float:  # noqa: N803
        """The mean log-density of the rows of X (N, D): as of a GaussianMixture (a KernelDensity's is the sum)."""
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1, random_state: Any = None, given: ArrayLike | None = None) -> Float64:
        """Draws (n_samples, D) in the units of the rows that it was fitted to, with all of their columns.

        ``given`` (G,) are the values of the given columns, in the order in which they were named; or (n_samples, G),
        other ones for each draw.

        Raises:
            ValueError: a conditional density is given nothing or values of another shape, or the others are given any.
            DivergedError: a draw is not finite.
        """
        check_is_fitted(self)
        if n_samples < 1:
            raise ValueError(f"n_samples is 1 or more, not {n_samples}")
        generator = torch.Generator().manual_seed(int(check_random_state(random_state).randint(2**31)))
        values = self._values(n_samples, given)
        draws = np.concatenate(list(self.density_.samples(n_samples, generator, values)))
        for place, category in enumerate(self._categories, len(self.density_.given)):
            draws[:, place] = values_of(category)[draws[:, place].astype(np.int64)]
        return draws[:, np.argsort(self._order)]

    def _values(self, n: int, given: ArrayLike | None) -> Float64 | None:
        """What is given to each of n draws, (n, G); None where nothing is."""
        columns = len(self.density_.given)
        if (given is None) != (columns == 0):
            raise ValueError("the density is conditional: sample takes given" if columns else "nothing can be given")
        if given is None:
            return None
        values = np.asarray(given, np.float64)
        if values.shape not in ((columns,), (n, columns)) or not np.isfinite(values).all():
            raise ValueError(
                f"given has shape {values.shape}, expected ({columns},) or ({n}, {columns}) finite numbers"
            )
        return np.array(np.broadcast_to(values, (n, columns)))

    def _validated(self, X: ArrayLike, **how: Any) -> Float64:  # noqa: N803
        """X as float64, NaN among it where that is allowed."""
        finite = "allow-nan" if self.missing == "indicator" else True
        return np.asarray(validate_data(self, X, dtype=np.float64, ensure_all_finite=finite, **how))

    def _coded(self, rows: Float64) -> Float64:
        """Rows with codes in the place of their categories' values."""
        first = len(self.given)
        given, classes, numbers = np.split(rows, [first, first + len(self._categories)], axis=1)
        if not np.isfinite(given).all():
            raise ValueError(
                "Input X contains NaN in a column that is given: nothing is conditional on a missing value"
            )
        return np.concatenate([given, coded(self._categories, classes), numbers], axis=1)

    def _names(self) -> list[str]:
        return [str(name) for name in getattr(self, "feature_names_in_", range(self.n_features_in_))]

    def _named(self, column: int | str, setting: str) -> str:
        """The name of a column that a setting gives by its name or place in X."""
        names = self._names()
        if column in names:
            return str(column)
        if not isinstance(column, int | np.integer) or not 0 <= column < len(names):
            raise UsageError(f"{setting} names columns of X; {column!r} is none")
        return names[column]

    def _table_options(self) -> TableOptions:
        """What a table's options say, by names."""
        ties = self.allow_ties if not isinstance(self.allow_ties, str) else ()
        return TableOptions(
            missing=self.missing,
            dequantise=self.dequantise,
            kinds={self._named(column, "kinds"): kind for column, kind in (self.kinds or {}).items()},
            bounds={self._named(column, "bounds"): tuple(pair) for column, pair in (self.bounds or {}).items()},  # type: ignore[misc]
            column_transforms={
                self._named(column, "column_transforms"): transform
                for column, transform in (self.column_transforms or {}).items()
            },
            allow_ties=(ALL,)
            if self.allow_ties == ALL
            else tuple(self._named(column, "allow_ties") for column in ties),
        )

    def _in_order(self, options: TableOptions) -> tuple[Indices, int, list[str]]:
        """The columns' places in X: those given, so many, then categories, then numbers; and their names."""
        names = self._names()
        given = [self._named(column, "given") for column in self.given]
        if len(set(given)) < len(given):
            raise UsageError("given names the columns of X, each once")
        said = {*options.kinds, *options.bounds, *options.column_transforms}
        idle = [name for name in given if name in said]
        if idle:
            raise UsageError(f"column {idle[0]!r} is given, so it has no kind, no bounds and no transform")
        categories = [name for name in names if options.kind_of(name) == CATEGORY]
        numbers = [name for name in names if name not in given and name not in categories]
        if not numbers:
            raise UsageError(
                "given names all columns of X, or categories are the others: none is left to model as a number"
            )
        ordered = [*given, *categories, *numbers]
        return np.array([names.index(name) for name in ordered]), len(given), ordered

    def _config(self, seed: int) -> RunConfig:
        names = ("transforms", "hidden", "batch_size", "learning_rate", "max_epochs", "max_seconds", "patience")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        twice = sorted(set(given) & set(self.options or {}))
        if twice:
            raise UsageError(f"{twice[0]} is given twice, in options too", "leave one of them out")
        return resolve(
            flows.load(self.flow).Options,
            packaged_layers(self.flow, "", "fast"),
            given | dict(self.options or {}),
            flow=self.flow,
            data="",
            recipe="fast",
            seed=seed,
            device=resolve_device(self.device),
            threads=torch.get_num_threads(),
        )

    def _split(self, n: int, random: np.random.RandomState) -> tuple[Indices, Indices]:
        """Which of n rows are held out, and which are kept."""
        fraction = self.validation_fraction
        if not 0 < fraction < 1:
            raise UsageError(f"validation_fraction is a share between 0 and 1, not {fraction!r}")
        order = random.permutation(n)
        held_out = min(max(1, int(fraction * n)), n - 1)
        return order[:held_out], order[held_out:]


@contextmanager
def _own_hint() -> Iterator[None]:
    """What is wrong with a table is said as on the command line, but what to do not with its options."""
    try:
        yield
    except DataError as error:
        settings = "kinds, bounds, column_transforms, missing, dequantise, allow_ties"
        hint = f"leave such columns out, or say what they are ({settings}); give at least {FEWEST_ROWS} rows"
        raise DataError(str(error), hint) from error


def _fit(
    config: RunConfig, parts: Sequence[torch.Tensor], given: Sequence[GivenColumn], discrete: Discrete | None
) -> tuple[Flow, list[Epoch]]:
    """Train on standardised rows, those kept and those held out; the flow in double precision, on the CPU."""
    with _BUILDING, torch.random.fork_rng(devices=[]), room_to_train(config.device):
        torch.default_generator.manual_seed(
            config.stream("initialisation")
        )  # torch.manual_seed would move the GPUs' generators too
        codes = len(discrete.classes) if discrete else 0
        dim, classes = parts[0].shape[1] - len(given) - codes, [column.classes for column in given]
        flow = flows.build(config.flow, dim, config.model, classes, discrete).to(config.device)
    rows, validation = (part.to(config.device) for part in parts)
    epochs = train(flow, rows, validation, config.training, config.stream("shuffling"))
    return flow.cpu().double(), epochs
