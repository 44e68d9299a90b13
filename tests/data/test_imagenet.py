"""ImageNet's layouts, on a small tree with the published names of files, folders and lists."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from kd.data.datasets.imagenet import load
from kd.store.store import Store
from tests.conftest import open_data

WNIDS = ("n01440764", "n01443537", "n02119789")
IDS = {"n02119789": 1, "n01440764": 2, "n01443537": 3}  # ILSVRC2012_ID: another order
TRUTH = [WNIDS[row % 3] for row in (2, 0, 0, 1, 2, 1, 0)]  # classes of the validation images


def noise(count, seed):
    return np.random.default_rng(seed).integers(0, 256, (count, 12, 12, 3), np.uint8)


def val_name(number):
    return f"ILSVRC2012_val_{number:08}.JPEG"


def grow(place, flat=True):
    for number, wnid in enumerate(WNIDS):
        (place / "train" / wnid).mkdir(parents=True)
        for row, image in enumerate(noise(6, number)):
            Image.fromarray(image).save(place / "train" / wnid / f"{wnid}_{row}.JPEG")
    for number, (image, wnid) in enumerate(zip(noise(len(TRUTH), 9), TRUTH, strict=True), 1):
        folder = place / "val" / ("" if flat else wnid)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / val_name(number))
    return place


def with_solution(root):
    """Kaggle's archive."""
    grow(root / "ILSVRC/Data/CLS-LOC")
    lines = [f"{val_name(number)[:-5]},{wnid} 1 2 3 4 {wnid} 5 6 7 8 " for number, wnid in enumerate(TRUTH, 1)]
    (root / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *reversed(lines)]))


def with_devkit(root, mapped=False):
    """The devkit beside train and val; with the map in place of meta.mat."""
    grow(root)
    place = root / "ILSVRC2012_devkit_t12" / "data"
    place.mkdir(parents=True)
    (place / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{IDS[wnid]}\n" for wnid in TRUTH))
    if mapped:
        (place / "map_clsloc.txt").write_text("".join(f"{wnid} {number} kit_fox\n" for wnid, number in IDS.items()))
        return
    io = pytest.importorskip("scipy.io")
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    rows = [(number, wnid, "kit fox, Vulpes", 0) for wnid, number in IDS.items()] + [(4, "n00001740", "entity", 2)]
    io.savemat(place / "meta.mat", {"synsets": np.array(rows, kinds)[:, None]})


LAYOUTS = {
    "class folders": lambda root: grow(root, flat=False),
    "devkit": with_devkit,
    "map": lambda root: with_devkit(root, mapped=True),
    "kaggle": with_solution,
}


@pytest.fixture
def opened(tmp_path):
    return lambda root, **settings: open_data(
        load, Store(tmp_path / "store"), **{"root": str(root), "image_size": 12, "val_fraction": 0.2, **settings}
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_images_and_classes(tmp_path, opened, layout):
    LAYOUTS[layout](tmp_path / "root")
    dataset = opened(tmp_path / "root")
    assert dataset.classes == WNIDS and dataset.name == "imagenet"
    assert len(dataset.test) == len(TRUTH) and len(dataset.train) + len(dataset.val) == 18
    grow(tmp_path / "plain", flat=False)
    assert opened(tmp_path / "plain").fingerprint == dataset.fingerprint
    assert len(list((tmp_path / "store/data").iterdir())) == 1  # found by its content
    for row, wnid in enumerate(TRUTH):
        image = np.asarray(Image.open(tmp_path / "plain" / "val" / wnid / val_name(row + 1)).convert("RGB"))
        (place,) = (place for place in dataset.test if (dataset.images[place] == image).all())
        assert dataset.classes[dataset.targets[place]] == wnid


def test_a_list_that_is_missing_or_does_not_match_is_named(tmp_path, opened):
    grow(tmp_path / "root")
    with pytest.raises(FileNotFoundError, match="val/ is flat.*ILSVRC2012_validation_ground_truth.txt and meta.mat"):
        opened(tmp_path / "root")
    truth = tmp_path / "root" / "ILSVRC2012_validation_ground_truth.txt"
    truth.write_text("1\n2\n")
    with pytest.raises(FileNotFoundError, match="but neither meta.mat nor map_clsloc.txt, which explain it"):
        opened(tmp_path / "root")
    (truth.parent / "map_clsloc.txt").write_text("".join(f"{wnid} {number} x\n" for wnid, number in IDS.items()))
    with pytest.raises(ValueError, match=r"5 images of .*val have no class of .*00003.JPEG \(not listed\)"):
        opened(tmp_path / "root")
    truth.write_text("1\n9\nx\n")
    with pytest.raises(ValueError, match="ground_truth.txt holds 9, x, no class"):
        opened(tmp_path / "root")
    Image.new("RGB", (12, 12)).save(tmp_path / "root" / "val" / "mine.jpg")
    with pytest.raises(ValueError, match="neither class folders nor ILSVRC2012_val_.*: mine.jpg"):
        opened(tmp_path / "root")
    shutil.rmtree(tmp_path / "root" / "val")
    with pytest.raises(FileNotFoundError, match="must hold train/ and val/"):
        opened(tmp_path / "root")
