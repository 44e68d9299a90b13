"""Images without labels: the student sees them, its hard term does not, and nobody else does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from kd.data.loader import Loader
from kd.data.pixels import Pixels, copy_in_parts
from kd.data.unlabelled import add_unlabelled, hide_labels
from kd.interfaces import Outputs
from kd.methods.supervised import CrossEntropy
from kd.store.store import Store

CPU = torch.device("cpu")
MORE = 40


def grow(folder, count=MORE, side=16):
    """Write noise into two nested folders, and return it in the order of the names."""
    images = np.random.default_rng(3).integers(0, 256, (count, side, side, 3), np.uint8)
    for number, image in enumerate(images):
        place = folder / ("a" if number < count // 2 else "b/c")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number:03}.png")
    return images


@pytest.fixture
def joined(tmp_path, dataset):
    images = grow(tmp_path / "more")
    found = add_unlabelled(Store(tmp_path / "store"), dataset, str(tmp_path / "more"))
    assert (found.unlabelled.images == images).all()
    return found


def test_labels_splits_and_fingerprint_stay(dataset, joined):
    assert joined.fingerprint == dataset.fingerprint and joined.notes["unlabelled_images"] == MORE
    for name in ("images", "targets", "train", "val", "test", "mean", "std", "classes"):
        assert np.array_equal(getattr(joined, name), getattr(dataset, name)), name


def test_the_fingerprint_of_the_images_is_their_content(tmp_path, dataset, joined):
    grow(tmp_path / "elsewhere")
    store = Store(tmp_path / "store")
    again = add_unlabelled(store, dataset, str(tmp_path / "elsewhere"))
    assert again.unlabelled.fingerprint == joined.unlabelled.fingerprint
    Image.new("RGB", (16, 16)).save(tmp_path / "elsewhere" / "one more.png")
    more = add_unlabelled(store, dataset, str(tmp_path / "elsewhere"))
    assert more.unlabelled.fingerprint != joined.unlabelled.fingerprint and len(more.unlabelled.images) == MORE + 1


def test_an_epoch_of_the_student_shows_both_and_that_of_others_the_labelled(dataset, joined):
    own, plain = Loader(joined, 20, 0, CPU), Loader(dataset, 20, 0, CPU)
    for one, other in zip(own.epoch(1), plain.epoch(1), strict=True):  # to the bit what it is without them
        assert torch.equal(one.index, other.index) and torch.equal(one.image, other.image) and one.labelled is None
    student = own.with_seed(0, unlabelled=True)
    count, first = len(dataset.train), len(dataset.targets)
    assert student.steps == (count + MORE) // 20 and own.steps == count // 20
    seen = {}
    for batch in student.epoch(1):
        assert batch.labelled == pytest.approx(count / (count + MORE))
        for image, index, target in zip(batch.image, batch.index.tolist(), batch.target.tolist(), strict=True):
            seen[index] = target
            pixels = joined.images[index] if index < first else joined.unlabelled.images[index - first]
            assert target == (joined.targets[index] if index < first else -1)
            assert torch.equal(image, torch.from_numpy(np.array(pixels)).permute(2, 0, 1) / 255)
    assert len(seen) == student.shown and sum(target == -1 for target in seen.values()) > MORE // 2
    again = student.with_seed(*student.stream)
    assert np.array_equal(again.order(3), student.order(3)) and again.labelled == student.labelled


def test_the_hard_term_is_the_mean_over_labelled_images():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(12, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0, -1, 3, -1, 2, 4, -1, 1, 0, 2, -1, 3])
    weight = torch.rand(5, generator=generator, dtype=torch.float64)
    marked = target >= 0
    batch = a_batch(target, labelled=8 / 12)
    for smoothing in (0.0, 0.1, torch.tensor(0.1, dtype=torch.float64)):
        for class_weight in (None, weight):
            term = CrossEntropy(smoothing)
            value = term(Outputs(logits), None, batch._replace(class_weight=class_weight))
            only = batch._replace(target=target[marked], class_weight=class_weight, labelled=None)
            expected = term(Outputs(logits[marked]), None, only)
            torch.testing.assert_close(value, expected)
            (gradient,) = torch.autograd.grad(value, logits)
            assert not gradient[~marked].any() and gradient[marked].any()
    parts = [
        CrossEntropy()(Outputs(logits[rows]), None, a_batch(target[rows], labelled=8 / 12)) for rows in target_slices()
    ]
    torch.testing.assert_close(torch.stack(parts).mean(), CrossEntropy()(Outputs(logits), None, batch))


def target_slices():
    return [slice(start, start + 4) for start in (0, 4, 8)]


def a_batch(target, **more):
    from kd.interfaces import Batch

    return Batch(torch.zeros(len(target), 3, 8, 8), target, torch.arange(len(target)), **more)


def test_a_mixture_with_an_image_without_a_label_counts_by_the_share_of_the_other():
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    target, partner = torch.tensor([1, -1, -1]), torch.tensor([2, 3, -1])
    share = torch.tensor([0.7, 0.6, 0.9], dtype=torch.float64)
    batch = a_batch(target, labelled=0.5, mixup_target=partner, mixup_lam=share)
    own = [F.cross_entropy(logits[row : row + 1], torch.tensor([label])) for row, label in ((0, 1), (0, 2), (1, 3))]
    expected = (0.7 * own[0] + 0.3 * own[1] + 0.4 * own[2]) / 3 / 0.5
    torch.testing.assert_close(CrossEntropy()(Outputs(logits), None, batch), expected)


def test_grey_data_get_grey_images(tmp_path, dataset):
    grow(tmp_path / "more", 4)
    grey = replace(dataset, images=np.ascontiguousarray(dataset.images[..., :1]))
    found = add_unlabelled(Store(tmp_path / "store"), grey, str(tmp_path / "more")).unlabelled
    assert found.images.shape == (4, 16, 16, 1)


def test_bad_files_are_named_and_counted(tmp_path, dataset):
    grow(tmp_path / "more", 4)
    (tmp_path / "more" / "x.png").write_text("no image")
    with pytest.raises(ValueError, match=r"data.unlabelled=.*1 of 5 files cannot be read.*\n  x.png: not an image"):
        add_unlabelled(Store(tmp_path / "store"), dataset, str(tmp_path / "more"))
    found = add_unlabelled(Store(tmp_path / "store"), dataset, str(tmp_path / "more"), "skip")
    assert found.notes["unlabelled_bad_files"] == 1 and len(found.unlabelled.images) == 4
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="data.unlabelled=.*there is no file in"):
        add_unlabelled(Store(tmp_path / "store"), dataset, str(tmp_path / "empty"))


def test_several_arrays_are_read_as_one():
    arrays = [np.random.default_rng(n).integers(0, 256, (n + 3, 4, 4, 3), np.uint8) for n in range(3)]
    whole = np.concatenate(arrays)
    positions = np.array([11, 0, 3, 2, 6, 7, 11])
    out = np.empty((len(positions), 4, 4, 3), np.uint8)
    Pixels(arrays, CPU)._take(positions, out)
    assert (out == whole[positions]).all()
    assert (copy_in_parts(arrays, CPU).numpy() == whole).all()


def test_hidden_labels_are_of_each_class_and_more_labels_are_these_and_others(dataset):
    few, more = hide_labels(dataset, 0.1, 0), hide_labels(dataset, 0.25, 0)
    assert set(few.train) < set(more.train) and set(few.train) != set(hide_labels(dataset, 0.1, 1).train)
    for found in (few, more):
        assert np.array_equal(np.sort(np.concatenate([found.train, found.hidden])), dataset.train)
        assert set(found.targets[found.train]) == set(dataset.targets[dataset.train])
        assert found.val is dataset.val and found.test is dataset.test
    assert len({dataset.fingerprint, few.fingerprint, more.fingerprint}) == 3
    assert few.notes["labelled_images"] + few.notes["images_with_hidden_labels"] == len(dataset.train)


def test_an_epoch_of_the_student_hides_labels_and_that_of_others_the_images(joined):
    few = hide_labels(joined, 0.25, 0)
    own = Loader(few, 10, 0, CPU)
    student = own.with_seed(0, unlabelled=True)
    assert own.steps == len(few.train) // 10 and student.steps == (len(joined.train) + MORE) // 10
    assert not set(torch.cat([batch.index for batch in own.epoch(1)]).tolist()) & set(few.hidden.tolist())
    seen = set()
    for batch in student.epoch(1):
        for image, index, target in zip(batch.image, batch.index.tolist(), batch.target.tolist(), strict=True):
            seen.add(index)
            assert target == (few.targets[index] if index in few.train else -1)
            if index < len(few.targets):
                assert torch.equal(image, torch.from_numpy(np.array(few.images[index])).permute(2, 0, 1) / 255)
    assert len(seen) == student.shown and len(seen & set(few.hidden.tolist())) > len(few.hidden) // 2
    assert (few.targets >= 0).all()  # the loaders share them


@pytest.mark.parametrize("share", [0, 1, 1.5, "a"])
def test_a_share_that_is_none_is_refused(dataset, share):
    with pytest.raises(ValueError, match="data.labelled must lie between 0 and 1"):
        hide_labels(dataset, share, 0)


def test_a_class_of_one_image_is_refused_by_name(dataset):
    one = np.flatnonzero(dataset.targets[dataset.train] == 2)[1:]
    with pytest.raises(ValueError, match="labelled=0.5.*which is split into images with labels and images without"):
        hide_labels(replace(dataset, train=np.delete(dataset.train, one)), 0.5, 0)
