"""The engine of torch's calls: every plan, each direction with its gradient written out, on every device."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from flowbench.config import TrainingOptions
from flowbench.engines.eager import elementwise, substitution
from flowbench.engines.eager.batch_norm import batch_norm, batch_norm_by, batch_norm_inverse
from flowbench.engines.eager.coupling import Halves
from flowbench.engines.eager.held import of_a_row
from flowbench.engines.eager.network import Network, apart, beside, write_gradient
from flowbench.engines.eager.substitution import Solved, Substitution
from flowbench.engines.graphs import Replayed
from flowbench.engines.interface import Density, Engine, Held, Joined, Launch, Moved, Stage, Update, Work
from flowbench.transforms.activation import Activation
from flowbench.transforms.plan import (
    AsWritten,
    BatchNormPlan,
    CouplingPlan,
    Direction,
    MaskedPlan,
    PermutationPlan,
)
from flowbench.transforms.transform import Pair
from flowbench.transforms.univariate import Univariate, standard_normal
from flowbench.tuning import TORCH_BLOCK


class TorchEngine:
    """Other engines are this one with parts of it in kernels."""

    kernels: tuple[type[Univariate], ...] = ()
    """The univariate maps that it does not run as they are written."""

    normalise = staticmethod(batch_norm)
    normalise_by = staticmethod(batch_norm_by)

    def launcher(self, device: torch.device) -> Launch:
        """On CUDA steps are captured as one graph and replayed."""
        return Replayed() if device.type == "cuda" else _call

    def updater(
        self,
        flat: Tensor,  # others need them
        state: Mapping[str, Tensor],
        options: TrainingOptions,
        runs: Sequence[tuple[int, int]],
    ) -> Update | None:
        """None: torch's own."""
        return None

    def join(self, stages: Sequence[Stage], dim: int) -> list[Stage]:  # others need it
        """None: each is run by itself."""
        return list(stages)

    def image(self, stage: Stage, x: Tensor) -> tuple[Tensor, Tensor]:
        """What leaves a stage (D, N) and log_det (N,), of x (D, N), in the direction that the stage says."""
        return moved(self, stage, x)[:2]

    def log_prob(self, stage: Stage, x: Tensor) -> Tensor:
        """As ``density``, without the pull-back."""
        if isinstance(stage.plan, AsWritten) and stage.plan.density is not None and not stage.inverted:
            with torch.no_grad():  # what its gradient would need, many times the rows, is not kept
                return stage.plan.density(x.t())
        return self.density(stage, x)[0]

    def descend(self, stage: Stage, x: Tensor, each: float, gradients: Sequence[Tensor]) -> Tensor:
        """As ``log_prob``, and in ``gradients`` those of ``each`` times its sum, of the stage's weights."""
        log_prob, pull = self.density(stage, x)
        pull(torch.full_like(log_prob, each), gradients)
        return log_prob

    def forward(self, stage: Stage, x: Tensor) -> Moved:
        """u (D, N), log_det (N,) and their pull-back, from x (D, N)."""
        plan = stage.plan
        match plan:
            case MaskedPlan():
                return self.masked_forward(plan, stage, x)
            case BatchNormPlan():
                return self._normalised(plan, stage, x)
            case PermutationPlan():
                return _gather(x, *stage.constants)
            case CouplingPlan():
                return self._coupled(plan, stage, x)
            case AsWritten():
                return _as_written(plan.forward, stage, x)
            case Joined():
                raise NotImplementedError("it joins none")

    def inverse(self, stage: Stage, u: Tensor) -> Moved:
        """x (D, N), log_det (N,) and their pull-back, from u (D, N)."""
        plan = stage.plan
        match plan:
            case MaskedPlan():
                return self.masked_inverse(plan, stage, u)
            case BatchNormPlan():
                return batch_norm_inverse(self.normalise_by, plan.epsilon, stage, u)
            case PermutationPlan():
                return _gather(u, stage.constants.back, stage.constants.there)
            case CouplingPlan():
                return self._uncoupled(plan, stage, u)
            case AsWritten():
                return _as_written(plan.inverse, stage, u)
            case Joined():
                raise NotImplementedError("it joins none")

    def density(self, stage: Stage, x: Tensor) -> Density:
        """The log-density (N,) of x (D, N) whose image by the stage is standard normal, and its pull-back."""
        plan = stage.plan
        if isinstance(plan, MaskedPlan) and not stage.inverted and elementwise.has_density(plan.univariate):
            return self.masked_density(plan, stage, x)
        if isinstance(plan, AsWritten) and not stage.inverted and plan.density is not None:
            return _density_as_written(plan.density, x)
        u, log_det, pull = moved(self, stage, x)
        return log_det + standard_normal(u).sum(0), lambda gradient, out: pull(-u * gradient, gradient, out)

    def draw(self, stage: Stage, noise: Tensor) -> tuple[Tensor, Tensor]:
        """See `Engine.draw`: by substitution."""
        plan = stage.plan
        if isinstance(plan, AsWritten) and plan.draw is not None:
            x, log_prob = plan.draw(noise.transpose(1, 2))
            return x.t().contiguous(), log_prob
        assert isinstance(plan, MaskedPlan)
        found = self.substitute_draws(plan, stage, noise)
        theta = found.values[plan.level(-1), : noise.shape[2]].contiguous()
        return found.x, self.log_density(plan.univariate, found.x, theta)

    def held(self, stage: Stage, dim: int, rows: int) -> Held:
        """See `Engine.held`."""
        kept, passing = of_a_row(stage, dim, self.kernels)
        return Held(kept * rows, passing * rows)

    # --- what kernels may take over -----------------------------------------------------------------------------------

    def finish(self, values: Tensor, bias: Tensor, activation: Activation | None) -> Tensor | None:
        """Add biases (units,) to a product (units, N) and apply the non-linearity in place; see ``activate``."""
        values += bias[:, None]
        return None if activation is None else elementwise.activate(values, activation)

    def pull_activation(self, cotangent: Tensor, h: Tensor, slope: Tensor | None, activation: Activation) -> None:
        """What a cotangent becomes below the non-linearity whose output is h, in place."""
        elementwise.pull_activation(cotangent, h, slope, activation)

    def move(self, univariate: Univariate, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """The univariate map of x (D, N), given θ (D·P, N): u and log|∂u/∂x| (D, N)."""
        return elementwise.move(univariate, x, theta)

    def move_back(self, univariate: Univariate, u: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse of ``move`` at u (D, N): x and log|∂x/∂u| (D, N)."""
        return univariate.inverse(u, elementwise.per_parameter(theta, univariate.parameters))

    def pull_move(
        self,
        univariate: Univariate,
        x: Tensor,
        theta: Tensor,
        image: tuple[Tensor, Tensor],
        gradients: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """The cotangents of x (D, N) and θ (D·P, N) from those of u (D, N) and of log_det (N,)."""
        return elementwise.pull_move(univariate, x, theta, image, gradients)

    def log_density(self, univariate: Univariate, x: Tensor, theta: Tensor) -> Tensor:
        """The sum (N,) of the columns' log-densities at x (D, N), given θ (D·P, N); see `Univariate.density`."""
        return elementwise.density(univariate, x, theta)

    def pull_log_density(
        self, univariate: Univariate, x: Tensor, theta: Tensor, gradient: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The cotangents of x (D, N) and θ (D·P, N) from that of the log-density (N,)."""
        return elementwise.pull_density(univariate, x, theta, gradient)

    def substitute(self, plan: MaskedPlan, stage: Stage, u: Tensor) -> Solved:
        """The inverse at u (D, N)."""
        return substitution.solved(plan, stage, u, lambda column, theta: plan.univariate.inverse(u[column], theta))

    def substitute_draws(self, plan: MaskedPlan, stage: Stage, noise: Tensor) -> Solved:
        """The draws that random numbers (draws, D, N) make, without their density: that of all at once is less work."""
        columns, nothing = noise.unbind(1), noise.new_zeros(())

        def solve(column: int, theta: Tensor) -> Pair:
            return plan.univariate.draw(columns[column], theta), nothing

        return substitution.solved(plan, stage, noise[0], solve)

    def pull_inverse(
        self, plan: MaskedPlan, stage: Stage, u: Tensor, solved: Solved, gradients: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The cotangents of u (D, N) and of all units (units, N), from those of x (D, N) and of log_det (N,)."""
        (grad_x, grad_log_det), rows = gradients, u.shape[1]
        theta = solved.values[plan.level(-1), :rows].contiguous()
        da_du, da, dl_du, dl = elementwise.partials(plan.univariate, u, theta)
        cotangents = u.new_zeros(plan.units, rows)
        cotangents[plan.columns] = grad_x
        torch.mul(dl, grad_log_det, out=cotangents[plan.level(-1)])
        self.pull_substitution(plan, stage, solved, cotangents, da)
        return cotangents[plan.columns] * da_du + grad_log_det * dl_du, cotangents

    def pull_substitution(self, plan: MaskedPlan, stage: Stage, solved: Solved, cotangents: Tensor, da: Tensor) -> None:
        """Complete the units' cotangents (units, N), preset with those that come from outside; ``da`` is ∂a/∂θ."""
        hidden = solved.values[plan.hidden, : cotangents.shape[1]]
        slopes = elementwise.slope_of(hidden, solved.slopes, plan.network.activation)
        work = Substitution(plan, stage.weights[0], cotangents)
        work.pull(TORCH_BLOCK, substitution.gradient_steps(work, da, slopes))

    # --- masked autoregressive ----------------------------------------------------------------------------------------

    def masked_forward(self, plan: MaskedPlan, stage: Stage, x: Tensor) -> Moved:
        """One pass of the network; its gradient another two."""
        network, univariate = Network(self, plan.network, stage.weights[0], beside(stage, x)), plan.univariate
        theta = network.outputs
        image = self.move(univariate, x, theta)

        def pull(grad_u: Tensor, grad_log_det: Tensor, out: Sequence[Tensor]) -> Tensor:
            grad_x, grad_theta = self.pull_move(univariate, x, theta, image, (grad_u, grad_log_det))
            return grad_x + apart(stage, network.pull(grad_theta, stage.constants.masks, out[0]), out)

        return image[0], image[1].sum(0), pull

    def masked_density(self, plan: MaskedPlan, stage: Stage, x: Tensor) -> Density:
        """See ``density``: where that is less work than the map."""
        network, univariate = Network(self, plan.network, stage.weights[0], beside(stage, x)), plan.univariate
        theta = network.outputs

        def pull(gradient: Tensor, out: Sequence[Tensor]) -> Tensor:
            grad_x, grad_theta = self.pull_log_density(univariate, x, theta, gradient)
            return grad_x + apart(stage, network.pull(grad_theta, stage.constants.masks, out[0]), out)

        return self.log_density(univariate, x, theta), pull

    def masked_inverse(self, plan: MaskedPlan, stage: Stage, u: Tensor) -> Moved:
        """By substitution, and its gradient by substitution on the transposed network."""
        solved = self.substitute(plan, stage, u)

        def pull(grad_x: Tensor, grad_log_det: Tensor, out: Sequence[Tensor]) -> Tensor:
            grad_u, cotangents = self.pull_inverse(plan, stage, u, solved, (grad_x, grad_log_det))
            levels = [plan.level(level) for level in range(plan.levels)]
            values = [solved.values[level, : u.shape[1]] for level in levels]
            own = [cotangents[level] for level in levels]
            write_gradient(plan.network.packing, stage.constants.masks, values, own, out[0])
            apart(stage, own[0], out)
            return grad_u

        return solved.x, solved.log_det, pull

    # --- couplings, normalisation -------------------------------------------------------------------------------------

    def _coupled(self, plan: CouplingPlan, stage: Stage, x: Tensor) -> Moved:
        halves = Halves(self, plan, stage, x)
        image = self.move(plan.univariate, halves.moved, halves.theta)

        def pull(grad_u: Tensor, grad_log_det: Tensor, out: Sequence[Tensor]) -> Tensor:
            grad_passed, grad_moved = halves.part(grad_u)
            gradients = grad_moved, grad_log_det
            grad_moved, grad_theta = self.pull_move(plan.univariate, halves.moved, halves.theta, image, gradients)
            return halves.merge(grad_passed + halves.pull(grad_theta, out), grad_moved)

        return halves.merge(halves.passed, image[0]), image[1].sum(0), pull

    def _uncoupled(self, plan: CouplingPlan, stage: Stage, u: Tensor) -> Moved:
        halves, univariate = Halves(self, plan, stage, u), plan.univariate
        x, log_derivative = self.move_back(univariate, halves.moved, halves.theta)

        def pull(grad_x: Tensor, grad_log_det: Tensor, out: Sequence[Tensor]) -> Tensor:
            da_du, da, dl_du, dl = elementwise.partials(univariate, halves.moved, halves.theta)
            grad_passed, grad_moved = halves.part(grad_x)
            grad_each = grad_moved.repeat_interleave(univariate.parameters, 0)  # each parameter of a column
            grad_passed += halves.pull(da * grad_each + dl * grad_log_det, out)
            return halves.merge(grad_passed, grad_moved * da_du + grad_log_det * dl_du)

        return halves.merge(halves.passed, x), log_derivative.sum(0), pull

    def _normalised(self, plan: BatchNormPlan, stage: Stage, x: Tensor) -> Moved:
        if plan.by_batch:
            return self.normalise(x, stage, plan.epsilon)
        return self.normalise_by(x, stage.constants.mean, stage.weights[1].detach(), 1, stage, plan.epsilon)


def moved(engine: Engine, stage: Stage, x: Tensor) -> Moved:
    """The stage's direction at x (D, N)."""
    return engine.inverse(stage, x) if stage.inverted else engine.forward(stage, x)


def _call(work: Work, rows: Tensor) -> Tensor:
    return work(rows)


def _gather(x: Tensor, order: Tensor, back: Tensor) -> Moved:
    return (
        x.index_select(0, order),
        x.new_zeros(()).expand(x.shape[1]),
        lambda grad_u, *_: grad_u.index_select(0, back),
    )


def _density_as_written(density: Callable[[Tensor], Tensor], x: Tensor) -> Density:
    """A density without weights to train, by autograd."""
    own = x.t().detach().requires_grad_()
    with torch.enable_grad():
        log_prob = density(own)

    def pull(gradient: Tensor, out: Sequence[Tensor]) -> Tensor:
        return elementwise.pulled([log_prob], [own], [gradient])[0].t().contiguous()

    return log_prob.detach(), pull


def _as_written(direction: Direction, stage: Stage, x: Tensor) -> Moved:
    """A direction of which nothing else is known, by autograd."""
    weights, context = stage.weights, stage.context
    own = x.t().detach().requires_grad_()
    with torch.enable_grad():
        out, log_det = direction(own) if context is None else direction(own, context)
        log_det = log_det.expand(len(own))

    def pull(grad_out: Tensor, grad_log_det: Tensor, gradients: Sequence[Tensor]) -> Tensor:
        trained = [weight.requires_grad for weight in weights]
        wanted = [own, *itertools.compress(weights, trained)]
        grad_x, *found = elementwise.pulled((out, log_det), wanted, (grad_out.t(), grad_log_det))
        for place, gradient in zip(itertools.compress(gradients, trained), found, strict=True):
            place.copy_(gradient)
        return grad_x.t().contiguous()

    return out.detach().t().contiguous(), log_det.detach(), pull
