"""The contract that every file in flowbench/flows keeps. A new flow is tested without a line more."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from flow_cases import shaken
from safetensors.torch import load_file, save_file
from torch.autograd.functional import jacobian

from flowbench import flows
from flowbench.errors import DataError, UsageError
from flowbench.training import weights
from flowbench.training.checks import checks
from flowbench.training.contract import examine, shake
from flowbench.transforms import MADE, Affine, Body, Network, standard_normal

pytestmark = pytest.mark.usefixtures("float64")

EVERY_FLOW = pytest.mark.parametrize("name", flows.names())
BIJECTIONS = [name for name in flows.names() if name not in ("gmm", "kde")]
EVERY_BIJECTION = pytest.mark.parametrize("name", BIJECTIONS)
EVERY_DIM = pytest.mark.parametrize("dim", [1, 2, 5])


@EVERY_BIJECTION
@EVERY_DIM
def test_inverse_undoes_forward_and_forward_inverse(name: str, dim: int) -> None:
    flow = shaken(name, dim)
    x = torch.randn(20, dim) * 2
    u, log_det = flow.to_noise(x)
    back, log_det_back = flow.to_data(u)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-9)
    torch.testing.assert_close(log_det_back, -log_det, rtol=0, atol=1e-9)
    x, log_det = flow.to_data(u)
    torch.testing.assert_close(flow.to_noise(x)[0], u, rtol=0, atol=1e-9)
    assert log_det.shape == (20,)


@EVERY_BIJECTION
@EVERY_DIM
@pytest.mark.parametrize("direction", ["to_noise", "to_data"])
def test_log_det_is_that_of_the_jacobian(name: str, dim: int, direction: str) -> None:
    flow = shaken(name, dim)
    move = getattr(flow, direction)
    for row in torch.randn(4, dim):
        full = jacobian(lambda x: move(x[None])[0][0], row)
        torch.testing.assert_close(move(row[None])[1][0], torch.linalg.slogdet(full).logabsdet, rtol=0, atol=1e-9)


@EVERY_BIJECTION
@EVERY_DIM
def test_log_prob_is_the_base_density_of_u_plus_log_det(name: str, dim: int) -> None:
    flow = shaken(name, dim)
    x = torch.randn(7, dim)
    u, log_det = flow.to_noise(x)
    base = torch.distributions.Normal(0.0, 1.0).log_prob(u).sum(-1)
    torch.testing.assert_close(flow.log_prob(x), base + log_det)
    torch.testing.assert_close(flow(x), flow.log_prob(x))


@EVERY_FLOW
def test_rows_do_not_see_each_other_in_evaluation(name: str) -> None:
    flow = shaken(name, 5)
    x = torch.randn(6, 5)
    alone = torch.cat([flow(row[None]) for row in x])
    torch.testing.assert_close(flow(x), alone, rtol=1e-12, atol=1e-12)


@EVERY_FLOW
@EVERY_DIM
def test_a_conditioner_sees_all_columns_before_its_own_and_no_other(name: str, dim: int) -> None:
    row = torch.randn(dim)
    for made in (module for module in shaken(name, dim, hidden=(40, 40)).modules() if isinstance(module, MADE)):
        seen = (
            torch.stack(jacobian(lambda x, made=made: tuple(t[0] for t in made.parameters_of(x[None])), row))
            .abs()
            .amax(0)
        )
        assert torch.equal(seen != 0, torch.ones(dim, dim).tril(-1) != 0)


@EVERY_FLOW
@EVERY_DIM
@pytest.mark.parametrize("training", [False, True])
def test_every_parameter_has_its_gradient(name: str, dim: int, training: bool) -> None:
    flow = shaken(name, dim).train(training)
    x = torch.randn(9, dim, requires_grad=True)  # so that a flow without parameters has a backward pass too
    flow(x).mean().backward()
    for label, parameter in flow.named_parameters():
        assert parameter.grad is not None, label
        direction = torch.randn_like(parameter) * (parameter != 0)  # masked weights stay where they are
        step = 1e-6 * direction
        with torch.no_grad():
            parameter += step
            above = flow(x).mean()
            parameter -= 2 * step
            below = flow(x).mean()
            parameter += step
        slope = ((above - below) / 2e-6).item()
        assert (parameter.grad * direction).sum().item() == pytest.approx(slope, rel=1e-4, abs=1e-7), label


@EVERY_FLOW
def test_the_input_has_its_gradient(name: str) -> None:
    flow = shaken(name, 4)
    x = torch.randn(5, 4, requires_grad=True)
    assert torch.autograd.gradcheck(flow, (x,), atol=1e-5)


@EVERY_FLOW
def test_sampling_follows_the_density(name: str) -> None:
    flow = shaken(name, 3)
    x, log_prob = flow.sample_and_log_prob(50, torch.Generator().manual_seed(1))
    torch.testing.assert_close(x, flow.sample(50, torch.Generator().manual_seed(1)))
    torch.testing.assert_close(log_prob, flow(x), rtol=0, atol=1e-9)


@EVERY_FLOW
@EVERY_DIM
def test_a_saved_flow_is_the_same_flow(name: str, dim: int, tmp_path: Path) -> None:
    flow = shaken(name, dim).float()
    module = flows.load(name)
    small = {"hidden": (11, 13), "transforms": 3, "log_scale_bound": 2.0}
    options = module.Options(**{k: v for k, v in small.items() if k in module.Options.model_fields})
    weights.save(tmp_path / "flow.safetensors", flow, name, options, weights.About(data="x"))
    torch.set_default_dtype(torch.float32)
    again, about = weights.load(tmp_path / "flow.safetensors")
    assert about == weights.About(data="x")
    x = torch.randn(6, dim)
    assert torch.equal(again(x), flow(x))
    assert [path.name for path in tmp_path.iterdir()] == ["flow.safetensors"]


def test_a_checkpoint_with_forbidden_weights_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "flow.safetensors"
    module = flows.load("maf")
    weights.save(path, module.build(3, module.Options()), "maf", module.Options(), weights.About())
    state = load_file(path)
    state["transform.transforms.0.conditioner.0.weight"][0, 1] = 1.0  # from column 2 to a unit of degree 1
    header = {"flow": "maf", "dim": "3", "options": module.Options().model_dump_json(), "about": "{}"}
    save_file(state, path, header)
    with pytest.raises(DataError, match="mask forbids"):
        weights.load(path)


@pytest.mark.parametrize(
    "header", [{"flow": "nice"}, {"options": "[1]"}, {"options": '{"hidden": "x"}'}, {"dim": "two"}, {"about": "{"}]
)
def test_a_checkpoint_with_a_damaged_header_is_refused(header: dict[str, str], tmp_path: Path) -> None:
    module = flows.load("maf")
    whole = {"flow": "maf", "dim": "3", "options": module.Options().model_dump_json(), "about": "{}"}
    state = {key: value.contiguous() for key, value in module.build(3, module.Options()).state_dict().items()}
    save_file(state, tmp_path / "flow.safetensors", whole)
    weights.load(tmp_path / "flow.safetensors")
    save_file(state, tmp_path / "flow.safetensors", whole | header)
    with pytest.raises(DataError, match="holds no readable weights"):
        weights.load(tmp_path / "flow.safetensors")


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"not one")
    with pytest.raises(DataError, match="holds no readable weights"):
        weights.load(tmp_path / "x.safetensors")


def test_an_unknown_flow_gets_the_nearest_name() -> None:
    with pytest.raises(UsageError) as error:
        flows.load("relnvp")
    assert "did you mean realnvp?" in str(error.value.hint)


@pytest.mark.parametrize(("name", "passes"), [("maf", (1, 6)), ("iaf", (6, 1)), ("realnvp", (1, 1))])
def test_passes_are_those_of_the_papers(name: str, passes: tuple[int, int]) -> None:
    transform = shaken(name, 6).transform
    assert (transform.density_passes, transform.sampling_passes) == passes


def test_fitting_maf_to_data_is_fitting_the_implicit_iaf_to_the_base() -> None:
    """KL(π_x ‖ p_x) = KL(p_u ‖ π_u), sample by sample (MAF paper, section 3.3 and appendix A)."""
    dim = 5
    maf, iaf = (shaken(name, dim, transforms=1, batch_norm=False) for name in ("maf", "iaf"))
    weights = {key.replace("conditioner", "transform.conditioner"): v for key, v in maf.state_dict().items()}
    iaf.load_state_dict(weights)
    factor = torch.randn(dim, dim)
    data = torch.distributions.MultivariateNormal(torch.randn(dim), factor @ factor.T + torch.eye(dim))
    x = data.sample((500,))
    to_data = data.log_prob(x) - maf(x)  # log π_x − log p_x at x ~ π_x
    u, _ = iaf.to_data(x)  # the IAF with base π_x draws u ...
    x_again, log_det = iaf.to_noise(u)  # ... and its density of u needs the way back
    to_base = data.log_prob(x_again) + log_det - standard_normal(u).sum(-1)  # log p_u − log π_u at u ~ p_u
    torch.testing.assert_close(to_base, to_data, rtol=0, atol=1e-8)
    assert to_data.mean() > 0


def test_realnvp_passes_the_odd_columns_first() -> None:
    first, second = shaken("realnvp", 5, transforms=2, batch_norm=False).transform.transforms
    assert (first.passed.tolist(), second.passed.tolist()) == ([1, 3], [0, 2, 4])


@pytest.mark.parametrize("name", ["maf", "iaf", "realnvp"])
@pytest.mark.parametrize("dim", [3, 300])  # whole matrices, and matrices in strips
def test_a_checkpoint_of_the_format_before_is_read(name: str, dim: int, tmp_path: Path) -> None:
    """Format 1 kept a network's packed tensor, and RealNVP's networks under names of their own."""
    module = flows.load(name)
    options = module.Options.model_validate({"hidden": (600,) if dim == 300 else (5, 4), "transforms": 2})
    flow = module.build(dim, options)
    state = {key: value for key, value in flow.state_dict().items() if not key.endswith((".weight", ".bias"))}
    for prefix, network in flow.named_modules():
        if isinstance(network, Network):
            older = prefix.replace("networks.0", "translation").replace("networks.1", "scale")
            state[f"{older}.flat"] = network.flat.detach()
    header = {"flow": name, "dim": str(dim), "options": options.model_dump_json(), "about": "{}"}
    save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "old.safetensors", header)
    again, _ = weights.load(tmp_path / "old.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(flow.parameters(), again.parameters(), strict=True))


@EVERY_FLOW
def test_the_contract_holds(name: str) -> None:
    torch.set_default_dtype(torch.float32)
    found = dict(examine(flows.load(name), name))
    assert len(found) >= (23 if name in BIJECTIONS else 14)
    assert {label: check.value for label, check in found.items() if not check.passed} == {}


@pytest.mark.parametrize("name", ["maf", "iaf", "maf-mog"])
@EVERY_DIM
@pytest.mark.parametrize("classes", [(), (3,)], ids=["unconditional", "conditional"])
def test_gated_updates_pass_the_closing_checks(name: str, dim: int, classes: tuple[int, ...]) -> None:
    torch.manual_seed(dim)
    options = flows.load(name).Options.model_validate({"hidden": 9, "transforms": 2, "update": "gated"})
    flow = flows.build(name, dim, options, classes)
    rows = torch.cat([torch.randint(3, (60, len(classes))), torch.randn(60, dim)], 1)
    shake(flow, rows)
    found = checks(flow.eval(), rows, flow(rows).detach().numpy())
    assert {label: check.value for label, check in found.items() if not check.passed} == {}
    assert set(found) == {"not_finite", "roundtrip", "log_det", "order"}


def test_a_gated_iaf_draws_as_the_papers_algorithm_does() -> None:
    """Kingma et al. 2016, algorithm 1: [m, s] of what is before, z = sigmoid(s) z + (1 - sigmoid(s)) m."""
    flow = shaken("iaf", 4, update="gated", transforms=2, batch_norm=False)
    z = noise = torch.randn(9, 4)
    log_density = torch.distributions.Normal(0.0, 1.0).log_prob(noise).sum(-1)
    for made in reversed([module for module in flow.modules() if isinstance(module, MADE)]):
        m, s = made.parameters_of(z)
        gate = torch.sigmoid(s)
        z = gate * z + (1 - gate) * m
        log_density -= gate.log().sum(-1)
        z = z.flip(-1)
    x, found = flow.drawn(noise[None])
    torch.testing.assert_close((x, found), (z.flip(-1), log_density))


def test_a_state_that_is_refused_changes_nothing_that_it_should_not() -> None:
    made = MADE(3, Body((4,)), Affine())
    state = made.state_dict()
    before = made.flat.detach().clone()
    wrong = state | {"1.weight": torch.ones_like(state["1.weight"])}
    with pytest.raises(RuntimeError, match="mask forbids"):
        made.load_state_dict(wrong)
    assert torch.equal(made.packing.views(made.flat)[1].strips[0], made.packing.views(before)[1].strips[0])
    other = MADE(3, Body((4,)), Affine())
    lacking = {key: value for key, value in state.items() if key != "1.bias"}
    assert other.load_state_dict(lacking, strict=False).missing_keys == ["1.bias"]
    assert torch.equal(other.state_dict()["0.weight"], state["0.weight"])
