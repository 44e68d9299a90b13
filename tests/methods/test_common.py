"""Pairing the maps of two networks, and the errors of the shared checks."""

from __future__ import annotations

import pytest
import torch

from kd.interfaces import Outputs
from kd.methods._common import check_batch, check_embedding, check_wide, paired_maps, paired_wide_maps, same_size


def shown(*sides: int) -> Outputs:
    return Outputs(torch.zeros(2, 3), features=tuple(torch.rand(2, 4 + i, side, side) for i, side in enumerate(sides)))


STUDENT, TEACHER = shown(24, 12, 6), shown(12, 12, 6, 3, 2)


def sides(found) -> list[tuple[int, int]]:
    return [(ours.shape[-1], theirs.shape[-1]) for ours, theirs in found]


def test_maps_are_paired_from_the_deep_end():
    assert sides(paired_maps(STUDENT, TEACHER)) == [(24, 6), (12, 3), (6, 2)]
    assert sides(paired_maps(STUDENT, TEACHER, (-1, -3))) == [(24, 6), (6, 2)]
    assert sides(paired_maps(TEACHER, STUDENT)) == [(6, 24), (3, 12), (2, 6)]


@pytest.mark.parametrize(
    ("teacher", "stages", "message"),
    [
        (None, None, "shows none"),
        (Outputs(torch.zeros(2, 3)), None, "an ensemble"),
        (TEACHER, (-4,), "-3 to -1 can be paired"),
        (TEACHER, (0,), "-3 to -1 can be paired"),
        (TEACHER, (), "-3 to -1 can be paired"),
        (TEACHER, -1, r"kd.stages=\[-1\]"),
    ],
)
def test_what_cannot_be_paired_is_refused_with_what_can(teacher, stages, message):
    with pytest.raises(ValueError, match=message):
        paired_maps(STUDENT, teacher, stages)


def test_the_larger_map_is_pooled_to_the_smaller_side_by_side():
    tall, wide = torch.rand(1, 2, 8, 2), torch.rand(1, 3, 4, 4)
    ours, theirs = same_size(tall, wide)
    assert ours.shape[-2:] == theirs.shape[-2:] == (4, 2)
    torch.testing.assert_close(ours, tall.view(1, 2, 4, 2, 2).mean(3))
    assert same_size(wide, wide)[0] is wide


def test_single_places_are_left_out_with_a_warning_and_refused_alone():
    with pytest.warns(UserWarning, match="leaves 1 of 2"):
        check_wide(shown(4, 2), shown(4, 1), None, "kd=at")
    assert sides(paired_wide_maps(shown(4, 2), shown(4, 1), None)) == [(4, 4)]
    with pytest.raises(ValueError, match="a single place"):
        check_wide(shown(4), shown(1), None, "kd=at")


def test_one_image_and_no_embedding_are_refused():
    with pytest.raises(ValueError, match="kd=rkd compares the images of a batch"):
        check_batch(1, "kd=rkd")
    check_batch(2, "kd=rkd")
    with pytest.raises(ValueError, match="kd=rkd compares embeddings"):
        check_embedding(Outputs(torch.zeros(2, 3)), "kd=rkd")
