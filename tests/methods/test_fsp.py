"""FSP: published values of both codes, what of a map counts, and networks of other channels."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate

from kd.interfaces import Outputs
from kd.methods.fsp import FSP, VARIANTS, flow, flow_distance, max_pool
from kd.train.objective import Objective
from tests.conftest import compose
from tests.methods.published import agrees, array, entries

NAMES = ("f_s_a", "f_s_b", "f_t_a", "f_t_b")


def shown(*features) -> Outputs:
    return Outputs(torch.zeros(len(features[0]), 6), None, features)


def loss_of(variant, s_a, s_b, t_a, t_b):
    return flow_distance(flow(s_a, s_b, variant), flow(t_a, t_b, variant), variant)


@entries("FSP", "FSP_torchdistill")
def test_fsp_is_the_published_one(entry, dtype):
    method = FSP("torchdistill" if entry["method"] == "FSP_torchdistill" else "code")
    shapes = [torch.zeros(array(name).shape) for name in entry["inputs"]]
    method.setup(shown(*shapes[:2]), shown(*shapes[2:]))
    assert not list(method.parameters())  # equal channels are compared as they are
    agrees(entry, dtype, lambda s_a, s_b, t_a, t_b: method(shown(s_a, s_b), shown(t_a, t_b), None))


def test_three_maps_have_two_flows_and_other_channels_a_convolution():
    torch.manual_seed(0)
    own = torch.randn(2, 3, 8, 8), torch.randn(2, 4, 4, 4), torch.randn(2, 6, 2, 2)
    given = torch.randn(2, 5, 6, 6), torch.randn(2, 4, 3, 3), torch.randn(2, 7, 1, 1)
    method = FSP()
    method.setup(shown(*own), shown(*given))
    assert [type(layer) for layer in method.align] == [torch.nn.Conv2d, torch.nn.Identity, torch.nn.Conv2d]
    a, b, c = (layer(x) for layer, x in zip(method.align, own, strict=True))
    expected = loss_of("code", a, b, *given[:2]) + loss_of("code", b, c, *given[1:])
    torch.testing.assert_close(method(shown(*own), shown(*given), None), expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_places_and_twice_the_batch_do_not_matter_and_agreement_is_zero(variant):
    given = [array(name) for name in NAMES]
    once = loss_of(variant, *given).item()
    assert loss_of(variant, *(x.repeat(2, 1, 1, 1) for x in given)).item() == pytest.approx(once, rel=1e-12)
    turned = [x.flip(-1) for x in given[:2]] + given[2:]  # the same places in another order
    assert loss_of(variant, *turned).item() == pytest.approx(once, rel=1e-12)
    apart = [10 * given[0], given[1] / 10, *given[2:]]  # the flow is a product
    assert loss_of(variant, *apart).item() == pytest.approx(once, rel=1e-9)
    assert loss_of(variant, *given[2:], *given[2:]).item() == 0


@pytest.mark.parametrize(
    ("inside", "outside"), [((8, 8), (4, 4)), ((7, 5), (4, 3)), ((6, 6), (6, 6)), ((3, 3), (1, 1))]
)
def test_the_maximum_is_torchs_with_its_gradient(inside, outside):
    x = torch.randn(2, 3, *inside, dtype=torch.float64, requires_grad=True)
    found, expected = max_pool(x, *outside), F.adaptive_max_pool2d(x, outside)
    assert torch.equal(found, expected)
    weight = torch.randn_like(expected)
    torch.testing.assert_close(
        *(torch.autograd.grad((y * weight).sum(), x, retain_graph=True)[0] for y in (found, expected))
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_equal_and_empty_and_large_maps_have_finite_gradients(variant):
    given = [array(name, torch.float32) for name in NAMES]
    for scale in (0.0, 1.0, 60.0):
        for own in (given[:2], given[2:]):
            student = [(scale * x).requires_grad_() for x in own]
            loss = loss_of(variant, *student, *given[2:])
            loss.backward()
            assert loss.isfinite() and all(x.grad.isfinite().all() for x in student)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_stack_of_students_learns_as_separate_students_do(variant):
    first, second = torch.randn(3, 2, 5, 6, 6).double(), torch.randn(3, 2, 4, 3, 3).double()
    given = torch.randn(2, 5, 6, 6).double(), torch.randn(2, 4, 3, 3).double()
    stacked = torch.func.vmap(lambda a, b: loss_of(variant, a, b, *given))(first, second)
    alone = [loss_of(variant, a, b, *given) for a, b in zip(first, second, strict=True)]
    torch.testing.assert_close(stacked, torch.stack(alone))


def test_one_map_and_an_unknown_variant_are_refused():
    with pytest.raises(ValueError, match="kd=fsp compares what lies between .* name two or more kd.stages"):
        FSP(stages=[-1]).setup(shown(torch.zeros(2, 3, 4, 4)), shown(torch.zeros(2, 3, 4, 4)))
    with pytest.raises(ValueError, match="kd.variant must be one of code, torchdistill, got 'max'"):
        FSP("max")


def test_the_yaml_puts_every_number_in_its_place():
    kd = compose("kd=fsp", "kd.variant=torchdistill", "kd.stages=[-2,-1]", "kd.hard=0.5", "kd.weight=4").kd
    objective = Objective(instantiate(kd.terms), dict(kd.weights))
    term = objective.terms["fsp"]
    assert term.variant == "torchdistill" and list(term.stages) == [-2, -1]
    assert objective.weights == {"hard": 0.5, "fsp": 4}
