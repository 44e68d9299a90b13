"""TrivialAugmentWide and RandAugment draw operations, strengths and signs as torchvision's classes do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from kd.augment._ops import OPERATIONS, WIDTH, Space, table
from kd.augment.randaugment import SPACE, RandAugment
from kd.augment.trivial import WIDE, TrivialAugmentWide
from tests.augment.reference import SPACES, images, same_categories, torchvision_operation, uniforms, unit

SIDE, COUNT = 40, 20_000
CASES = {
    "trivial": (TrivialAugmentWide(), v2.TrivialAugmentWide(), WIDE),
    "trivial of 5 steps": (TrivialAugmentWide(5), v2.TrivialAugmentWide(5), WIDE),
    "randaugment": (RandAugment(), v2.RandAugment(), SPACE),
    "randaugment, 3 strong": (RandAugment(3, 14, 20), v2.RandAugment(3, 14, 20), SPACE),
}


def drawn_by(theirs: v2.Transform, monkeypatch: pytest.MonkeyPatch, count: int) -> list[tuple[str, float]]:
    """Return the operations and strengths that torchvision's class draws for ``count`` images, in order."""
    seen = []

    def note(self, image, name, strength, **_):
        seen.append((name, strength))
        return image

    monkeypatch.setattr(type(theirs), "_apply_image_or_video_transform", note)
    torch.manual_seed(0)
    for _ in range(count):
        theirs(torch.zeros(3, SIDE, SIDE, dtype=torch.uint8))
    return seen


def rows_by_strength(theirs: v2.Transform, space: Space, bins: int) -> dict[tuple[str, float], Tensor]:
    """Return our parameters for each (operation, strength) of torchvision's class."""
    rows, found = table(space, bins, SIDE), {}
    for place, name in enumerate(OPERATIONS):
        strengths, signed = theirs._AUGMENTATION_SPACE[name]
        values = strengths(bins, SIDE, SIDE)
        for step, strength in enumerate([0.0] * bins if values is None else values.tolist()):
            found[name, float(strength)] = rows[place, step, 0]
            if signed:
                found.setdefault((name, -float(strength)), rows[place, step, 1])
    return found


@pytest.mark.parametrize("case", CASES)
def test_operations_strengths_and_signs_have_torchvisions_law(case, monkeypatch):
    step, theirs, space = CASES[case]
    ours = step.parameters(uniforms(100_000, step.draws), SIDE).unflatten(1, (-1, WIDTH))
    known = rows_by_strength(theirs, space, step.num_magnitude_bins)
    drawn = torch.stack([known[one] for one in drawn_by(theirs, monkeypatch, COUNT)]).unflatten(0, (COUNT, -1))
    assert drawn.shape[1] == ours.shape[1]
    for place in range(drawn.shape[1]):
        assert same_categories(ours[-COUNT:, place], drawn[:, place])
    if place:  # two operations are independent
        assert same_categories(ours[-COUNT:, :2, :2].flatten(1), drawn[:, :2, :2].flatten(1))
    functions = ours[:, 0, 0].long().bincount()
    share = functions / len(ours) * len(OPERATIONS)  # five of the fourteen share a function
    assert (share - torch.tensor([1, 5, 1, 1, 1, 1, 1, 1, 1, 1])).abs().max() < 0.06


@pytest.mark.parametrize("policy", SPACES)
def test_a_view_is_what_torchvision_makes_of_the_drawn_operations(policy):
    """The whole way, from numbers to a batch of mixed operations."""
    step = {"trivial": TrivialAugmentWide(), "randaugment": RandAugment()}[policy]
    image, u = unit(images(32)).repeat(40, 1, 1, 1), uniforms(200, step.draws)
    drawn = step.parameters(u, 32)
    views = step.apply(image, drawn, drawn, 32)
    for own, one, numbers in zip(views, image, u, strict=True):
        per = 3 if policy == "trivial" else 2
        for chosen in numbers.split(per):
            name = list(OPERATIONS)[int(chosen[0] * len(OPERATIONS))]
            at = int(chosen[1] * 31) if policy == "trivial" else step.magnitude
            strengths, signed = SPACES[policy][1]._AUGMENTATION_SPACE[name]
            values = strengths(31, 32, 32)
            strength = 0.0 if values is None else float(values[at]) * (-1 if signed and chosen[-1] < 0.5 else 1)
            one = torchvision_operation(policy, one, name, strength)
        assert (own - one).abs().max() <= 1 / 255


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (TrivialAugmentWide, {"num_magnitude_bins": 1}),
        (RandAugment, {"num_ops": 0}),
        (RandAugment, {"magnitude": 31}),
        (RandAugment, {"magnitude": 9.5}),
    ],
)
def test_impossible_settings_are_refused(kind, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        kind(**wrong)
