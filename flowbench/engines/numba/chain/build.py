"""The tables of a chain, from the stages that an engine is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from flowbench.engines.interface import Stage
from flowbench.engines.numba.chain.tables import COUPLED, LEVEL, MASKED, NORMALISED, ORDERED, STAGE, Chain
from flowbench.engines.numba.tiles import BYTES
from flowbench.transforms.activation import RELU, TANH
from flowbench.transforms.affine import Affine
from flowbench.transforms.packing import LayerPacking
from flowbench.transforms.plan import BatchNormPlan, CouplingPlan, MaskedPlan, NetworkPlan, PermutationPlan
from flowbench.transforms.univariate import Univariate


def knows(stage: Stage) -> bool:
    """Whether chains take such a stage: affine maps, networks of plain layers with relu or tanh units."""
    match stage.plan:
        case MaskedPlan(network=network, univariate=univariate, context=context):
            return not context and _plain(network, univariate)
        case CouplingPlan(networks=networks, univariate=univariate, context=context):
            return not context and all(_plain(network, univariate) for network in networks)
        case BatchNormPlan() | PermutationPlan():
            return True
    return False


def _plain(network: NetworkPlan, univariate: Univariate) -> bool:
    return (
        type(univariate) is Affine and network.activation in (RELU, TANH) and not (network.residual or network.dropout)
    )


@dataclass
class _Areas:
    """Rows of memory, given out one after the other; ``kept`` ones to each stage anew, else to all stages the same."""

    kept: bool
    rows: int
    _shared: dict[str, tuple[int, int]] = field(default_factory=dict)

    def of_stage(self, name: str, count: int) -> int:
        """So many rows of that name for a stage's values."""
        return self._new(count) if self.kept else self.shared(name, count)

    def shared(self, name: str, count: int) -> int:
        """The same rows for every stage that asks for that name; where one asks for more, they lie elsewhere."""
        first, held = self._shared.get(name, (0, -1))
        if held < count:
            first = self._new(count)
            self._shared[name] = first, count
        return first

    def _new(self, count: int) -> int:
        self.rows += count
        return self.rows - count


class Tables:
    """The tables of a chain of stages on ``dim`` columns, as they are filled.

    ``kept``: values of all stages are kept, for gradients.
    """

    def __init__(self, stages: Sequence[Stage], dim: int, kept: bool) -> None:
        self.dim = dim
        self.areas = _Areas(kept, dim + 2)
        self.weights = 0
        """Tensors that stages read, one after the other: see `tensors`."""
        self.size = 0
        """Numbers in a buffer of gradients."""
        self.turned = 1
        """Numbers that a row of data takes of the room where values are turned."""
        self.norms = 0
        self._stages: list[dict[str, Any]] = []
        self._levels: list[dict[str, Any]] = []
        self._units: list[np.ndarray] = []
        self._below: list[np.ndarray] = []
        self._columns: list[np.ndarray] = []
        self._come = self.areas.of_stage("even", dim)
        for index, stage in enumerate(stages):
            self._add(index, stage)

    def chain(self) -> Chain:
        """All of them."""
        stages, levels = _records(self._stages, STAGE), _records(self._levels, LEVEL)
        units = np.concatenate([np.zeros((5, 0), np.int64), *self._units], 1)
        below = np.concatenate([np.zeros((2, 0), np.int64), *self._below], 1)
        # a kernel looks one unit further for the pitch of rows, also behind the last
        units = np.ascontiguousarray(np.pad(units, ((0, 0), (0, 1))))
        batches = [index for index, stage in enumerate(self._stages) if stage.get("by_batch")]
        columns = np.concatenate([np.zeros(0, np.int64), *self._columns])
        segments = np.array([0, *batches, len(stages)])
        starts, sees, ends, holds, places = units
        seen_from, cuts = np.ascontiguousarray(below)
        return Chain(
            stages,
            levels,
            starts,
            sees,
            ends,
            holds,
            places,
            seen_from,
            cuts,
            columns,
            segments,
            dim=self.dim,
            log_det=self.dim,
        )

    def _add(self, index: int, stage: Stage) -> None:
        self._refuse_others(stage)
        leave = self.areas.of_stage("odd" if index % 2 == 0 else "even", self.dim)
        known: dict[str, Any] = {"come": self._come, "leave": leave, "inverted": stage.inverted}
        match stage.plan:
            case MaskedPlan():
                known |= self._masked(stage, stage.plan, known)
            case CouplingPlan():
                known |= self._coupled(stage, stage.plan)
            case BatchNormPlan(epsilon=epsilon):
                known |= {"kind": NORMALISED, "epsilon": epsilon, "by_batch": by_batch(stage), "norm": self.norms}
                known |= {"moves": self.dim}
                self.norms += 1
            case PermutationPlan():
                order = stage.constants.back if stage.inverted else stage.constants.there
                known |= {"kind": ORDERED, "passed": self._index(order), "passes": self.dim}
                known |= {"seen": self.areas.shared("reordered", self.dim)}
        self._stages.append({"weight": self.weights, **known})
        self.weights += len(tensors(stage))
        self._come = leave

    def _refuse_others(self, stage: Stage) -> None:
        """Kernels trust what is in the tables."""
        match stage.plan:
            case MaskedPlan(dim=dim):
                fits = dim == self.dim
            case CouplingPlan():
                fits = sorted([*stage.constants.passed.tolist(), *stage.constants.moved.tolist()]) == [*range(self.dim)]
            case BatchNormPlan():
                fits = all(len(tensor) == self.dim for tensor in tensors(stage))
            case _:
                fits = all(sorted(order.tolist()) == [*range(self.dim)] for order in stage.constants)
        if not fits:
            raise ValueError(f"a transform of other columns than the flow's {self.dim}: {type(stage.plan).__name__}")

    def _masked(self, stage: Stage, plan: MaskedPlan, known: dict[str, Any]) -> dict[str, Any]:
        seen = known["leave" if stage.inverted else "come"]
        found = self._networks([plan.network], seen, 0, plan.univariate)
        visible = plan.visible - plan.visible[:, :1]
        columns = np.arange(self.dim)
        return found | {
            "kind": MASKED,
            "step": 2,
            "apart": 1,
            "moved": self._index(columns),
            "moves": self.dim,
            "visible": self._index(visible.ravel()),
        }

    def _coupled(self, stage: Stage, plan: CouplingPlan) -> dict[str, Any]:
        passed, moved = stage.constants.passed, stage.constants.moved
        seen, pulled = self.areas.of_stage("seen", len(passed)), self.areas.shared("pulled", len(passed))
        step, apart = (2, 1) if plan.by_column else (1, len(moved))
        return self._networks(plan.networks, seen, pulled, plan.univariate) | {
            "kind": COUPLED,
            "seen": seen,
            "step": step,
            "apart": apart,
            "passed": self._index(passed),
            "passes": len(passed),
            "moved": self._index(moved),
            "moves": len(moved),
        }

    def _networks(
        self, networks: Sequence[NetworkPlan], seen: int, pulled: int, univariate: Univariate
    ) -> dict[str, Any]:
        """Their levels; ``seen`` and ``pulled`` are where the values that they read, and their cotangents, lie."""
        outputs = [network.packing.layers[-1].shape[0] for network in networks]
        # one behind the other
        theta, above = self.areas.of_stage("theta", sum(outputs)), self.areas.shared("theta̅", sum(outputs))
        scales, first = self.areas.of_stage("scales", sum(outputs) // 2), len(self._levels)
        places = np.cumsum([0, *outputs[:-1]]).tolist()
        for number, (network, place) in enumerate(zip(networks, places, strict=True)):
            self._network(network, number, (seen, theta + place), (pulled, above + place))
        assert isinstance(univariate, Affine)
        return {
            "first_level": first,
            "end_level": len(self._levels),
            "theta": theta,
            "scales": scales,
            "gain": univariate.gain,
            "bound": univariate.bound or 0.0,
        }

    def _network(self, plan: NetworkPlan, number: int, values: tuple[int, int], cotangents: tuple[int, int]) -> None:
        layers, position = plan.packing.layers, 0
        (below, theta), (cotangents_below, above) = values, cotangents
        for index, layer in enumerate(layers):
            last, units = index == len(layers) - 1, layer.shape[0]
            own = theta if last else self.areas.of_stage(f"level {number} {index}", units)
            pulled = above if last else self.areas.shared(f"level {number} {index} ̅", units)
            biases = position + sum(rows * seen for rows, seen in (strip.shape for strip in layer.strips))
            self._levels.append(
                {
                    "units": units,
                    "below": layer.shape[1],
                    "is_first": index == 0,
                    "is_last": last,
                    "is_tanh": plan.activation == TANH,
                    "values": own,
                    "values_below": below,
                    "cotangents": pulled,
                    "cotangents_below": cotangents_below,
                    "weight": self.weights + number,
                    "bias": biases,
                    "unit": sum(part.shape[1] for part in self._units),
                    "unit_below": sum(part.shape[1] for part in self._below),
                }
            )
            self._layer(layer, position)
            below, cotangents_below, position = own, pulled, biases + units

    def _layer(self, layer: LayerPacking, position: int) -> None:
        rows, width = layer.shape
        sees = layer.sees().numpy()
        starts, ends, holds, places = (np.zeros(rows, np.int64) for _ in range(4))
        # a buffer's rows are whole vectors, of either precision
        lanes = BYTES // 4
        for strip in layer.strips:
            held, count = strip.rows, strip.rows.stop - strip.rows.start
            starts[held] = position + np.arange(count) * strip.seen
            pitch = -(-(1 + strip.seen) // lanes) * lanes
            places[held] = self.size + np.arange(count) * pitch
            ends[held], holds[held] = strip.rows.stop, strip.seen
            position += count * strip.seen
            self.size += count * pitch
        self._units.append(np.stack([starts, sees, ends, holds, places]))
        units = np.arange(width)
        widths = np.unique([strip.seen for strip in layer.strips] + [width])
        self._below.append(
            np.stack([np.searchsorted(sees, units, side="right"), widths[np.searchsorted(widths, units, side="right")]])
        )
        self.turned = max(self.turned, -(-(1 + width) // lanes) * lanes)

    def _index(self, columns: Tensor | np.ndarray) -> int:
        """Put them into the table of columns; where they begin."""
        first = sum(map(len, self._columns))
        self._columns.append(np.asarray(columns, np.int64))
        return first


def by_batch(stage: Stage) -> bool:
    """Whether it normalises by the batch's own statistics; the inverse always takes the training set's."""
    return isinstance(stage.plan, BatchNormPlan) and stage.plan.by_batch and not stage.inverted


def tensors(stage: Stage) -> list[Tensor]:
    """What kernels read of a stage by address."""
    statistics = list(stage.constants) if isinstance(stage.plan, BatchNormPlan) else []
    return [*stage.weights, *statistics]


def _records(rows: Sequence[dict[str, Any]], kind: np.dtype) -> np.ndarray:
    found = np.zeros(len(rows), kind)
    for record, row in zip(found, rows, strict=True):
        for name, value in row.items():
            record[name] = value
    return found
