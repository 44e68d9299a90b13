"""ReviewKD: HCL has the published value and gradient; fusion and chain agree with a slow reference; errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from kd.interfaces import Outputs
from kd.methods.reviewkd import Fusion, ReviewKD, hierarchical_context_loss
from tests.conftest import compose
from tests.methods.published import agrees, entries


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def network(embedding: int, *maps: tuple[int, int, int], count: int = 3) -> Outputs:
    return Outputs(draw(count, 6), draw(count, embedding), tuple(draw(count, *shape) for shape in maps))


@entries("HCL")
def test_hcl_is_the_published_one(entry, dtype):
    def loss(*maps):
        return sum(
            hierarchical_context_loss(own, given, entry["settings"]["levels"])
            for own, given in zip(maps[::2], maps[1::2], strict=True)
        )

    agrees(entry, dtype, loss)


def slow_pool(x: np.ndarray, level: int) -> np.ndarray:
    """Adaptive average pooling: cell i covers floor(i n / level) to ceil((i + 1) n / level)."""
    height, width = x.shape[-2:]
    out = np.empty((*x.shape[:2], level, level))
    for i in range(level):
        for j in range(level):
            rows = slice(i * height // level, math.ceil((i + 1) * height / level))
            columns = slice(j * width // level, math.ceil((j + 1) * width / level))
            out[:, :, i, j] = x[:, :, rows, columns].mean((2, 3))
    return out


def slow_hcl(student: np.ndarray, teacher: np.ndarray, levels: tuple[int, ...]) -> float:
    terms, weights = [((student - teacher) ** 2).mean()], [1.0]
    for level in levels:
        if level < student.shape[2]:
            terms.append(((slow_pool(student, level) - slow_pool(teacher, level)) ** 2).mean())
            weights.append(weights[-1] / 2)
    return float(np.dot(terms, weights) / sum(weights))


@pytest.mark.parametrize("levels", [(4, 2, 1), (5, 3), (), (9, 2)])
def test_hcl_agrees_with_loops(levels):
    student, teacher = draw(2, 3, 7, 7), draw(2, 3, 7, 7)
    expected = slow_hcl(student.numpy(), teacher.numpy(), levels)
    assert hierarchical_context_loss(student, teacher, levels).item() == pytest.approx(expected, rel=1e-12)


def test_hcl_of_a_small_map_by_hand():
    """Differences 1, 0, 0, 0: mean square 1/4, pooled to one pixel (1/4)^2, weights 1 and 1/2."""
    student = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]], dtype=torch.float64)
    expected = (1 / 4 + 1 / 2 * 1 / 16) / 1.5
    assert hierarchical_context_loss(student, torch.zeros_like(student)).item() == pytest.approx(expected, rel=1e-15)


def test_hcl_of_a_map_that_is_off_by_a_constant_is_its_square():
    teacher = draw(4, 3, 8, 8)
    assert hierarchical_context_loss(teacher + 0.5, teacher).item() == pytest.approx(0.25, abs=1e-12)
    assert hierarchical_context_loss(teacher, teacher).item() == 0


def test_hcl_of_one_pixel_is_the_mean_square():
    student, teacher = draw(4, 3, 1, 1), draw(4, 3, 1, 1)
    expected = ((student - teacher) ** 2).mean().item()
    assert hierarchical_context_loss(student, teacher).item() == pytest.approx(expected, abs=1e-15)


def test_hcl_does_not_depend_on_the_batch_size():
    student, teacher = draw(4, 3, 8, 8), draw(4, 3, 8, 8)
    twice = hierarchical_context_loss(torch.cat([student, student]), torch.cat([teacher, teacher]))
    assert twice.item() == pytest.approx(hierarchical_context_loss(student, teacher).item(), rel=1e-9)


def test_hcl_runs_for_a_stack_of_students():
    students, teacher = draw(3, 2, 4, 8, 8), draw(2, 4, 8, 8)
    stacked = torch.func.vmap(hierarchical_context_loss, in_dims=(0, None))(students, teacher)
    torch.testing.assert_close(stacked, torch.stack([hierarchical_context_loss(s, teacher) for s in students]))


def slow_norm(x: np.ndarray, norm: torch.nn.BatchNorm2d) -> np.ndarray:
    mean, variance = x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)
    gain, shift = (p.detach().numpy().reshape(1, -1, 1, 1) for p in (norm.weight, norm.bias))
    return (x - mean) / np.sqrt(variance + 1e-5) * gain + shift


def slow_convolution(x: np.ndarray, weight: torch.Tensor) -> np.ndarray:
    kernel = weight.detach().numpy()
    size = kernel.shape[-1]
    height, width = x.shape[-2:]
    around = np.pad(x, ((0, 0), (0, 0), (size // 2, size // 2), (size // 2, size // 2)))
    out = np.zeros((x.shape[0], kernel.shape[0], height, width))
    for i in range(size):
        for j in range(size):
            out += np.einsum("bchw,oc->bohw", around[:, :, i : i + height, j : j + width], kernel[:, :, i, j])
    return out


def slow_resize(x: np.ndarray, side: int) -> np.ndarray:
    """Resize by whole factors: repeat pixels to grow, average them to shrink."""
    old = x.shape[-1]
    if side >= old:
        return x.repeat(side // old, 2).repeat(side // old, 3)
    return slow_pool(x, side)


def slow_fusion(fusion: Fusion, x: np.ndarray, above: np.ndarray | None, side: int) -> tuple[np.ndarray, np.ndarray]:
    fused = slow_norm(slow_convolution(x, fusion.enter[0].weight), fusion.enter[1])
    if above is not None:
        above = slow_resize(above, x.shape[-1])
        both = np.concatenate([fused, above], 1)
        score = slow_convolution(both, fusion.attention.weight)
        score = 1 / (1 + np.exp(-(score + fusion.attention.bias.detach().numpy().reshape(1, 2, 1, 1))))
        fused = fused * score[:, :1] + above * score[:, 1:]
    shown = slow_norm(slow_convolution(slow_resize(fused, side), fusion.leave[0].weight), fusion.leave[1])
    return shown, fused


def randomize(module: torch.nn.Module) -> None:
    """Set random gains and biases: 1 and 0 could hide a mistake."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 1:
                parameter.uniform_(0.2, 1.5)


@pytest.mark.parametrize("sides", [(8, 4, 2), (4, 4, 4), (16, 8, 4), (4, 2, 1)], ids=["same", "both", "grow", "shrink"])
def test_the_whole_term_agrees_with_a_slow_reference(sides):
    student = network(5, (3, 8, 8), (4, 4, 4), (5, 2, 2))
    teacher = network(7, *((channels, side, side) for channels, side in zip((4, 6, 7), sides, strict=True)))
    term = ReviewKD(channels=6, levels=(2, 1))
    term.setup(student, teacher)
    randomize(term.double())
    own = [student.embedding[..., None, None], *reversed(student.features)]
    given = [teacher.embedding[..., None, None], *reversed(teacher.features)]
    expected, fused = 0.0, None
    for fusion, s, t in zip(term.fusions, own, given, strict=True):
        shown, fused = slow_fusion(fusion, s.numpy(), fused, t.shape[-1])
        expected += slow_hcl(shown, t.numpy(), (2, 1))
    assert term(student, teacher, None).item() == pytest.approx(expected, rel=1e-10)


def test_every_setting_is_used():
    student, teacher = network(5, (3, 8, 8), (5, 4, 4)), network(7, (4, 8, 8), (6, 4, 4))
    term = ReviewKD(stages=[-1], channels=9, levels=(1,))
    term.setup(student, teacher)
    assert [fusion.enter[0].weight.shape[:2] for fusion in term.fusions] == [(9, 5), (9, 5)]
    assert [fusion.leave[0].weight.shape[:2] for fusion in term.fusions] == [(7, 9), (6, 9)]
    assert [fusion.attention is None for fusion in term.fusions] == [True, False]
    term.double()
    one = term(student, teacher, None).item()
    term.levels = [2]
    assert term(student, teacher, None).item() != pytest.approx(one, rel=1e-6)


def test_convolutions_start_as_wide_as_the_authors():
    """Uniform in +-sqrt(3 / fan-in), whose variance is 1 / fan-in; torch's own default is a third of that."""
    torch.manual_seed(0)
    fusion = Fusion(20, 30, 40, is_first=False)
    for convolution, inputs in ((fusion.enter[0], 20), (fusion.leave[0], 30 * 9)):
        assert convolution.weight.var().item() * inputs == pytest.approx(1, rel=0.1)


def test_the_weight_rises_over_the_first_twelfth():
    from kd.build import build_objective

    objective = build_objective(compose("kd=reviewkd").kd)

    class At:
        def __init__(self, progress: float):
            self.progress = progress

    assert objective.weight("review", At(0.0415)) == pytest.approx(2.5)
    assert objective.weight("review", At(0.1)) == 5.0
    assert objective.weight("hard", At(0.0)) == 1.0


@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_extreme_maps_leave_value_and_gradient_finite(scale):
    student, teacher = network(5, (3, 8, 8), (5, 4, 4)), network(7, (4, 8, 8), (6, 4, 4))
    maps = [(scale * f.float()).requires_grad_() for f in student.features]
    student = Outputs(student.logits.float(), scale * student.embedding.float(), tuple(maps))
    teacher = Outputs(teacher.logits, teacher.embedding.float(), tuple(f.float() for f in teacher.features))
    term = ReviewKD(channels=4)
    term.setup(student, teacher)
    loss = term(student, teacher, None)
    loss.backward()
    assert loss.isfinite() and all(f.grad.isfinite().all() for f in maps)


def test_wrong_settings_and_teachers_are_refused():
    with pytest.raises(ValueError, match="kd.channels"):
        ReviewKD(channels=0)
    with pytest.raises(ValueError, match="kd.levels"):
        ReviewKD(levels=[4, 0])
    student, teacher = network(5, (3, 8, 8)), network(7, (4, 8, 8))
    with pytest.raises(ValueError, match="the teacher shows none.*teacher.source=auto"):
        ReviewKD().setup(student, teacher._replace(embedding=None))
    with pytest.raises(ValueError, match="maps of the teacher"):
        ReviewKD().setup(student, teacher._replace(features=()))
    with pytest.raises(ValueError, match="kd.stages"):
        ReviewKD(stages=[-2]).setup(student, teacher)
