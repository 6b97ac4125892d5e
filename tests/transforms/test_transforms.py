"""The transforms that no flow's contract reaches in all their states."""

from __future__ import annotations

import pytest
import torch
from flow_cases import shaken

from flowbench.flows import Flow, realnvp
from flowbench.timing.yardsticks import peak_bytes
from flowbench.training.calibration import begin, calibrate
from flowbench.transforms import (
    MADE,
    ActNorm,
    Affine,
    BatchNorm,
    Body,
    Chain,
    Coupling,
    Inverse,
    LULinear,
    MaskedAutoregressive,
    Network,
    Permutation,
)

pytestmark = pytest.mark.usefixtures("float64")


def affine_coupling(dim: int, hidden: tuple[int, ...], parity: int) -> Coupling:
    return realnvp.coupling(dim, parity, realnvp.Options(hidden=hidden, log_scale_bound=None), None)


def test_a_permutation_of_no_symmetry_is_undone() -> None:
    order = torch.tensor([2, 0, 3, 1])
    permutation = Permutation(order)
    x = torch.randn(5, 4)
    u, log_det = permutation(x)
    assert torch.equal(u, x[:, order])
    assert torch.equal(permutation.inverse(u)[0], x)
    loaded = Permutation.reverse(4)
    loaded.load_state_dict(permutation.state_dict())
    assert torch.equal(loaded.inverse(u)[0], x)
    assert not log_det.any()


def test_batch_norm_in_training_normalises_its_batch_and_counts_it() -> None:
    norm = BatchNorm(3)
    x = torch.randn(50, 3) * 4 + 7
    u, log_det = norm(x)
    torch.testing.assert_close(u.mean(0), torch.zeros(3), rtol=0, atol=1e-12)
    torch.testing.assert_close(u.var(0, correction=0), torch.ones(3), rtol=1e-5, atol=0)
    expected = -0.5 * (x.var(0, correction=0) + BatchNorm.EPSILON).log().sum()
    torch.testing.assert_close(log_det, expected.expand(50))


def test_statistics_of_a_chain_are_those_of_what_arrives() -> None:
    torch.manual_seed(0)
    coupling = affine_coupling(4, (5,), 0)
    chain = Chain([BatchNorm(4), coupling, BatchNorm(4)]).eval()
    x = torch.randn(300, 4) * 3 + 1
    calibrate(Flow(4, chain), x)
    u, _ = chain(x)
    torch.testing.assert_close(u.mean(0), torch.zeros(4), rtol=0, atol=1e-9)
    torch.testing.assert_close(u.var(0, correction=0), torch.ones(4), rtol=1e-3, atol=0)


def test_activation_normalisation_begins_where_rows_have_mean_zero_and_variance_one() -> None:
    torch.manual_seed(0)
    norms = [ActNorm(4), ActNorm(4)]
    flow = Flow(4, Chain([norms[0], affine_coupling(4, (5,), 0), norms[1]]))
    x = torch.randn(300, 4) * 3 + 1
    begin(flow, x)
    u, _ = flow.transform(x)
    torch.testing.assert_close(u.mean(0), torch.zeros(4), rtol=0, atol=1e-9)
    torch.testing.assert_close(u.var(0, correction=0), torch.ones(4))
    constant = ActNorm(2)
    constant.begin(torch.ones(2), torch.zeros(2))
    assert constant(torch.ones(3, 2))[0].isfinite().all()


def test_what_begins_after_batch_normalisation_begins_with_what_that_sends_in_training() -> None:
    torch.manual_seed(0)
    norm = ActNorm(4)
    flow = Flow(4, Chain([affine_coupling(4, (5,), 0), BatchNorm(4), norm]))
    begin(flow, 100 * torch.randn(300, 4) + 50)
    torch.testing.assert_close(norm.shift, torch.zeros(4), rtol=0, atol=1e-9)
    torch.testing.assert_close(norm.log_scale, torch.zeros(4), rtol=0, atol=1e-3)


def test_a_linear_layer_is_its_matrix() -> None:
    torch.manual_seed(0)
    layer, x = shaken_linear(5), torch.randn(7, 5)
    u, log_det = layer(x)
    matrix = torch.func.jacrev(lambda row: layer(row[None])[0][0])(x[0])
    torch.testing.assert_close(u, x @ matrix.t() + layer.bias)
    torch.testing.assert_close(log_det, torch.linalg.slogdet(matrix).logabsdet.expand(7))
    torch.testing.assert_close(layer.inverse(u)[0], x)
    assert torch.equal(LULinear(3)(x[:, :3])[0], x[:, :3])


def shaken_linear(dim: int) -> LULinear:
    layer = LULinear(dim)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    return layer


def test_a_coupling_leaves_one_half_and_moves_the_other() -> None:
    x = torch.randn(6, 5)
    for parity, passed, moved in ((0, [0, 2, 4], [1, 3]), (1, [1, 3], [0, 2, 4])):
        u, _ = affine_coupling(5, (7,), parity)(x)
        assert torch.equal(u[:, passed], x[:, passed])
        assert (u[:, moved] != x[:, moved]).all()


@pytest.mark.parametrize("bound", [None, 2.0])
def test_the_affine_map_is_told_mean_and_log_precision(bound: float | None) -> None:
    x, shift, raw = torch.tensor([3.0]), torch.tensor([1.0]), torch.tensor([0.5])
    u, log_derivative = Affine(bound).forward(x, (shift, raw))
    log_precision = raw / 2 if bound is None else bound * torch.tanh(raw / 2 / bound)
    torch.testing.assert_close(u, (x - shift) * log_precision.exp())
    torch.testing.assert_close(log_derivative, log_precision)


def test_a_coupling_is_realnvps_with_the_papers_scale_and_fan_in() -> None:
    coupling = affine_coupling(6, (4000,), 0)
    x = torch.randn(3, 6)
    translation, scale = (network(x[:, ::2]) for network in coupling.networks)
    u, log_det = coupling(x)
    torch.testing.assert_close(u[:, 1::2], (x[:, 1::2] - translation) * torch.exp(-scale))
    torch.testing.assert_close(log_det, -scale.sum(1))
    for network in coupling.networks:
        assert isinstance(network, Network)
        (first, _), (last, _) = network.layers()
        assert first.std().item() == pytest.approx(7**-0.5, rel=0.05)  # all D = 6 columns count as fan-in
        assert last.std().item() == pytest.approx(4001**-0.5, rel=0.05)


def test_networks_of_other_sizes_than_a_couplings_are_refused() -> None:
    networks = list(affine_coupling(6, (4,), 0).networks)
    with pytest.raises(ValueError, match="3 columns to 2 parameters of 3"):
        Coupling(6, 0, Affine(), networks[:1])  # type: ignore[arg-type]


def test_rows_under_autocast_go_through_every_flow() -> None:
    torch.set_default_dtype(torch.float32)
    for name in ("maf", "iaf", "realnvp"):
        flow = shaken(name, 5).float()
        x = torch.randn(6, 5)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = flow(x)
            found.mean().backward()
        assert (found.float() - flow(x)).abs().max() < 0.1 * flow(x).abs().max()


@pytest.mark.parametrize("direction", ["to_noise", "to_data"])
def test_without_gradients_a_chain_keeps_nothing_of_its_transforms(direction: str) -> None:
    rows = torch.randn(500, 6)

    def peak(transforms: int) -> int:
        flow = Flow(6, Chain(affine_coupling(6, (64, 64), k % 2) for k in range(transforms)))
        with torch.no_grad():
            return peak_bytes(lambda: getattr(flow, direction)(rows), "cpu")

    assert peak(8) < 1.2 * peak(2)


def test_a_network_says_its_sizes_and_its_state_is_dense_whatever_its_packing() -> None:
    made = MADE(300, Body((600,)), Affine())
    assert all(len(layer.strips) > 1 for layer in made.packing.layers)
    assert "300 → 600 → 600, relu" in repr(made)
    state = made.state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == {
        "0.weight": (600, 300),
        "0.bias": (600,),
        "1.weight": (600, 600),
        "1.bias": (600,),
    }
    again = MADE(300, Body((600,)), Affine())
    again.load_state_dict(state)
    assert torch.equal(again.flat, made.flat)


def test_a_made_starts_as_the_papers() -> None:
    made = MADE(20, Body((2000,)), Affine())
    for (weight, bias), layer in zip(made.layers(), made.packing.layers, strict=True):
        fan_in = layer.shape[1]
        assert weight[layer.mask() == 1].std().item() == pytest.approx((fan_in + 1) ** -0.5, rel=0.05)
        assert not bias.any()


def test_what_takes_statistics_is_not_inverted() -> None:
    with pytest.raises(ValueError, match="statistics"):
        Inverse(Chain([BatchNorm(3)]))


DIM = 20


def chained(strength: float) -> MaskedAutoregressive:
    """x_i = u_i + ``strength``·x_{i−1}, and no scale: the first column reaches the last through all others."""
    transform = MaskedAutoregressive(DIM, Body(()), Affine())
    weight = torch.zeros(2 * DIM, DIM)
    weight[2 * torch.arange(1, DIM), torch.arange(DIM - 1)] = strength
    transform.load_state_dict({"conditioner.0.weight": weight, "conditioner.0.bias": torch.zeros(2 * DIM)})
    return transform


@pytest.mark.parametrize(("strength", "passes"), [(0.0, 2), (0.1, 7), (3.0, DIM)])
def test_jacobi_takes_few_passes_where_columns_depend_weakly_and_all_where_strongly(
    strength: float, passes: int
) -> None:
    transform = chained(strength)
    u = torch.ones(4, DIM)
    x, log_det, taken = transform.inverse_by_jacobi(u, 7e-7)
    assert taken == passes
    expected, expected_log_det = transform.inverse(u)
    exactly = {"rtol": 0, "atol": 1e-12 if taken in (2, DIM) else 1e-6}
    torch.testing.assert_close(x / (1 + expected), expected / (1 + expected), **exactly)
    torch.testing.assert_close(log_det, expected_log_det, **exactly)


def test_jacobi_of_a_network_is_its_inverse_within_the_tolerance_and_what_is_no_number_ends() -> None:
    torch.manual_seed(0)
    transform = MaskedAutoregressive(DIM, Body((30, 30)), Affine(2.0))
    u = torch.randn(50, DIM)
    (x, log_det, taken), (expected, expected_log_det) = transform.inverse_by_jacobi(u, 1e-8), transform.inverse(u)
    assert 2 < taken < DIM
    torch.testing.assert_close(x, expected, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(log_det, expected_log_det, rtol=0, atol=1e-6)
    assert transform.inverse_by_jacobi(u.fill_(torch.nan), 1e-8)[2] == DIM
