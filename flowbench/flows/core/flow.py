"""A flow: a transform over a standard normal density, run by an engine."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate

import torch
from torch import Generator, Tensor, nn

from flowbench.data.rows import Rows
from flowbench.engines import Engine, Stage, choose
from flowbench.engines import differentiate as stages_run
from flowbench.flows.core.given import Given
from flowbench.flows.core.structure import Joinings
from flowbench.transforms import Pair, Transform, Undirected, beside, standard_normal


class Flow(nn.Module):
    """A density on rows of D columns: p(x) = N(f(x); 0, I)·|det ∂f/∂x| (MAF paper, eq. 1).

    Args:
        dim: the number of columns D.
        transform: f, from data to noise.
        engine: what runs it; None: the one that suits the rows' device and dtype.
        given: of a conditional density p(x | c), what is made of c: then the first G columns of each row are c, the
            other D are x, and c passes wherever rows are moved.

    >>> import torch
    >>> from flowbench.transforms import Affine, Body, Chain, MaskedAutoregressive, Permutation
    >>> steps = [MaskedAutoregressive(3, Body((16,)), Affine()) for _ in range(2)]
    >>> flow = Flow(3, Chain([steps[0], Permutation.reverse(3), steps[1]]))
    >>> x = torch.randn(5, 3)
    >>> flow.log_prob(x).shape
    torch.Size([5])
    >>> u, log_det = flow.to_noise(x)
    >>> torch.allclose(flow.to_data(u)[0], x, atol=1e-4)
    True
    """

    origin: Tensor
    """Zeros (D,), which carry device and dtype."""

    def __init__(
        self, dim: int, transform: Transform, engine: Engine | None = None, given: Given | None = None
    ) -> None:
        super().__init__()
        self.dim = dim
        self.transform = transform
        self.engine = engine
        self.given = given
        self.register_buffer("origin", torch.zeros(dim), persistent=False)
        self._joined = Joinings()

    def forward(self, x: Tensor) -> Tensor:
        """The log-density (N,) of x (N, G + D) in nats, in the space of x: log N(u; 0, I) + log|det ∂u/∂x|.

        It *is* ``log_prob``: whatever wraps a module (data parallelism, compilation, ``torch.func``) wraps that.
        """
        if _is_watched(x):
            u, log_det = self.to_noise(x)
            return standard_normal(self.apart(u)[1]).sum(-1) + log_det
        self._refuse_others(x)
        given, x = self.apart(x)
        engine = self.engine or choose(x)
        return stages_run.density(self._joined_stages(engine, given), x, engine)

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density (N,) of x (N, G + D) in nats: log p(x) = log N(f(x); 0, I) + log|det ∂f/∂x|."""
        return self(x)

    def to_noise(self, x: Tensor) -> Pair:
        """x (N, G + D) to (u, log|det ∂u/∂x|): the transform's forward, by an engine; u is (N, G + D).

        Raises:
            ValueError: rows of another number of columns or another dtype than the flow's.
        """
        return self._moved(x, inverted=False)

    def to_data(self, u: Tensor) -> Pair:
        """u (N, G + D) to (x, log|det ∂x/∂u|): the transform's inverse, by an engine; raises as ``to_noise``."""
        return self._moved(u, inverted=True)

    def _moved(self, rows: Tensor, inverted: bool) -> Pair:
        if not _is_watched(rows):
            self._refuse_others(rows)
        given, own = self.apart(rows)
        if _is_watched(rows):
            context = () if self.given is None else (self.given(given),)
            out, log_det = (self.transform.inverse if inverted else self.transform)(own, *context)
        else:
            engine = self.engine or choose(own)
            out, log_det = stages_run.run(self._joined_stages(engine, given, inverted), own, engine)
        return beside(given, out), log_det

    def moved_by(self, leaf: int, rows: Tensor) -> Pair:
        """Rows (N, G + D) moved by one of the transform's leaves alone, from data to noise, and its log|det| (N,)."""
        self._refuse_others(rows)
        given, own = self.apart(rows)
        engine = self.engine or choose(own)
        out, log_det = stages_run.run(self._joined_stages(engine, given, leaf=leaf), own, engine)
        return beside(given, out), log_det

    def stages(self, given: Tensor | None = None) -> list[Stage]:
        """The transform as engines see it, one leaf after the other; ``given`` is (N, G)."""
        return self._stages(self._context(given))

    def _joined_stages(
        self, engine: Engine, given: Tensor | None, inverted: bool = False, leaf: int | None = None
    ) -> list[Stage]:
        """The stages, or that of a leaf alone, or all ``inverted``; as the engine joins them."""

        def stages() -> list[Stage]:
            found = self.stages(given)[slice(None) if leaf is None else slice(leaf, leaf + 1)]
            return [stage._replace(inverted=not stage.inverted) for stage in reversed(found)] if inverted else found

        if self.given is not None:
            return stages()  # they hold what is given
        return self._joined.of(self.transform, (engine, inverted, leaf), lambda: engine.join(stages(), self.dim))

    def _context(self, given: Tensor | None) -> Tensor | None:
        return None if self.given is None or given is None else self.given(given)

    def _stages(self, context: Tensor | None) -> list[Stage]:
        found = []
        for leaf, inverted in self.transform.leaves():
            own = context if leaf.context else None
            weights = leaf.weights() if own is None else [*leaf.weights(), own]
            found.append(Stage(leaf.plan, weights, leaf.constants(), inverted, own))
        return found

    @property
    def parts(self) -> list[Flow]:
        """The flows that it is the mean of: itself."""
        return [self]

    @property
    def columns(self) -> int:
        """Of a row: G + D."""
        return self.dim + (self.given.columns if self.given else 0)

    def apart(self, rows: Tensor) -> tuple[Tensor | None, Tensor]:
        """What is given (N, G), None where nothing is, and the columns themselves (N, D)."""
        first = self.columns - self.dim
        return (rows[:, :first], rows[:, first:]) if self.given else (None, rows)

    def _refuse_others(self, rows: Tensor) -> None:
        dtype = self.origin.dtype
        here = self.origin.device
        if rows.ndim != 2 or rows.shape[1] != self.columns or rows.dtype != dtype or rows.device != here:
            found = f"{tuple(rows.shape)} of {rows.dtype} on {rows.device}"
            # a kernel would not ask
            raise ValueError(f"expected rows of shape (N, {self.columns}) of {dtype} on {here}, got {found}")

    def backpropagate(self, x: Tensor) -> Tensor:
        """Minus the mean log-density of x (N, G + D), (); its gradient is left in the parameters' ``grad``.

        As ``-self(x).mean()`` and its ``backward``, without autograd. A ``grad`` that is there is overwritten in place.
        """
        self._refuse_others(x)
        given, x = self.apart(x)
        context = self._context(given)
        engine = self.engine or choose(x)
        stages = self._joined_stages(engine, None) if context is None else self._stages(context.detach())
        parameters = [weight for stage in stages for weight in stage.weights]
        gradients = _places_for_gradients(parameters)
        each = -1 / max(1, len(x))
        log_prob = stages_run.descend(stages, x, engine, each, gradients)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            place = parameter.grad if parameter.requires_grad else None
            if place is not None and gradient is not place:  # it is in the flow more than once
                place += gradient
        if self.given is not None and context is not None and context.requires_grad:
            self.given.pull(context, _sum_of_last(stages, gradients))
        return each * log_prob.sum()

    def noise(self, n: int, generator: Generator | None = None) -> Tensor:
        """The random numbers (draws, n, D) of n draws: standard normal, and where a draw needs two, uniform."""
        *_, (last, inverted) = self.transform.leaves()
        noise = self.origin.new_empty(1 if inverted else last.draws, n, self.dim)
        noise[0].normal_(generator=generator)
        noise[1:].uniform_(generator=generator)
        return noise

    def drawn(self, noise: Tensor, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Draws (n, G + D) of random numbers as ``noise`` makes them, and their log-densities (n,) in nats.

        ``given`` (n, G) is what a conditional flow is given.

        Raises:
            ValueError: it is not conditional, or nothing is given.
        """
        self._refuse_nothing_given(given)
        if len(noise) == 1:
            x, log_det = self.to_data(beside(given, noise[0]))
            return x, standard_normal(noise[0]).sum(-1) - log_det
        x, log_prob = stages_run.draw(self.stages(given), noise, self.engine or choose(noise))
        return beside(given, x), log_prob

    def draws(self, noise: Tensor, given: Tensor | None = None) -> Tensor:
        """As ``drawn``, the draws alone."""
        if len(noise) > 1:
            return self.drawn(noise, given)[0]
        self._refuse_nothing_given(given)
        return self.to_data(beside(given, noise[0]))[0]

    def _refuse_nothing_given(self, given: Tensor | None) -> None:
        if (given is None) != (self.given is None):
            raise ValueError("a conditional flow draws rows for what it is given" if self.given else "nothing is given")

    def sample(self, n: int, generator: Generator | None = None, given: Tensor | None = None) -> Tensor:
        """n draws (n, G + D); see ``drawn``."""
        return self.draws(self.noise(n, generator), given)

    def sample_and_log_prob(
        self, n: int, generator: Generator | None = None, given: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """n draws (n, G + D) and their log-densities (n,) in nats, for the price of the draws; see ``drawn``."""
        return self.drawn(self.noise(n, generator), given)

    @property
    def bijective(self) -> bool:
        """Whether it is a map of rows to noise; else it has densities and draws alone."""
        return not any(isinstance(leaf, Undirected) for leaf, _ in self.transform.leaves())

    def fit_closed_form(self, x: Rows, validation: Rows) -> None:
        """Set what has a solution in closed form on training rows x (N, G + D); what there is to choose, by others."""


def by_autograd(module: nn.Module, loss: Callable[[], Tensor]) -> Tensor:
    """The loss (), whose gradient is left in the module's parameters' ``grad``, as `Flow.backpropagate` leaves it."""
    for parameter in module.parameters():
        if parameter.grad is not None:
            parameter.grad.zero_()  # in place: it may be part of what an optimizer holds
    with torch.enable_grad():
        found = loss()
    found.backward()
    return found.detach()


def _sum_of_last(stages: list[Stage], gradients: list[Tensor]) -> Tensor:
    """The context's gradient: the last of each stage's that has one."""
    ends = accumulate(len(stage.weights) for stage in stages)
    last = [gradients[end - 1] for stage, end in zip(stages, ends, strict=True) if stage.context is not None]
    return torch.stack(last).sum(0)


def _is_watched(x: Tensor) -> bool:
    """Whether ``torch.func`` or autocast look on: then the equations are run as they are written."""
    return torch._C._are_functorch_transforms_active() or torch.is_autocast_enabled(x.device.type)


def _places_for_gradients(parameters: list[Tensor]) -> list[Tensor]:
    """Each parameter's ``grad``, made where there is none; a new tensor for one that is frozen, or there again."""
    places: list[Tensor] = []
    taken: set[int] = set()
    for parameter in parameters:
        if parameter.requires_grad and parameter.grad is None:
            parameter.grad = torch.empty_like(parameter)
        place = parameter.grad if parameter.requires_grad else None
        if place is None or id(parameter) in taken:
            place = torch.empty_like(parameter)
        places.append(place)
        taken.add(id(parameter))
    return places
