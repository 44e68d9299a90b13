"""ImageNet (ILSVRC 2012): 1,281,167 training images in a thousand classes; the 50,000 validation images are the test.

Russakovsky et al. 2015, https://arxiv.org/abs/1409.0575. Read as it is unpacked: ``train/<wnid>/*.JPEG`` and ``val/``
with class folders, or flat with one of two lists of its classes: ``ILSVRC2012_validation_ground_truth.txt`` of the
devkit, whose numbers ``meta.mat`` or ``map_clsloc.txt`` explains, or ``LOC_val_solution.csv`` of Kaggle, whose archive
has the two folders in ``ILSVRC/Data/CLS-LOC``. The published test images have no public labels. A class is named by its
WordNet id, because two classes are called crane, and two maillot.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from kd.data.checks import folder_of, name_setting
from kd.data.class_folders import Part, entries, list_classes, only_folders
from kd.data.dataset import ImageDataset
from kd.data.datasets.folder import open_splits
from kd.data.files import printable
from kd.data.label_file import Listed
from kd.data.sizing import Sizing
from kd.runtime.text import first_few
from kd.store.store import Store

INSIDE = ("", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC")  # where Kaggle's archive has train and val
TRUTH, SOLUTION = "ILSVRC2012_validation_ground_truth.txt", "LOC_val_solution.csv"
META, MAP = "meta.mat", "map_clsloc.txt"
WNID, VAL_FILE = re.compile(r"n\d{8}"), re.compile(r"ILSVRC2012_val_(\d{8})\.JPE?G", re.IGNORECASE)


def load(
    store: Store,
    size: Sizing,
    seed: int = 0,
    val_fraction: float = 0.02,
    root: str | None = None,
    on_bad_file: str = "error",
    on_leak: str = "warn",
) -> ImageDataset:
    """Open ``root``, which holds ``train`` and ``val``; a part of the training images validates.

    Raises:
        FileNotFoundError: a folder or a list is not there, with the places that were looked at.
        ValueError: the list of classes does not match the images.
    """
    if root is None:
        raise ValueError("data=imagenet needs data.root=<folder>: it holds train/<wnid>/*.JPEG and val/")
    top = folder_of(root)
    with name_setting("root", top):
        place = find_place(top)
        train = list_classes(place / "train")
        splits = Listed(train, list_test(top, place / "val", train), None)
        return open_splits(store, "imagenet", splits, size, seed, val_fraction, on_bad_file, on_leak)


def find_place(top: Path) -> Path:
    """Return the folder that holds ``train`` and ``val``."""
    for inside in INSIDE:
        if (top / inside / "train").is_dir() and (top / inside / "val").is_dir():
            return top / inside
    raise FileNotFoundError(
        printable(f"data.root={top} must hold train/ and val/ (or ILSVRC/Data/CLS-LOC/ with them); looked for ")
        + printable((top / "train").absolute())
    )


def list_test(top: Path, val: Path, train: Part) -> Part:
    """Return the images of ``val`` by class: of its class folders, or by a list."""
    files = entries(val)
    if only_folders(val, files):
        return list_classes(val)
    numbers = {name: int(found[1]) for name in files if (found := VAL_FILE.fullmatch(name))}
    others = [name for name in files if name not in numbers]
    if others or not numbers:
        raise ValueError(
            f"{printable(val)} holds neither class folders nor ILSVRC2012_val_*.JPEG alone: "
            f"{first_few(map(printable, others), 3) or 'nothing'}"
        )
    where, class_of = read_truth(top, val)
    tree: dict[str, dict[str, str]] = {wnid: {} for wnid in train.classes}
    wrong = []
    for name, number in numbers.items():
        wnid = class_of.get(number)
        if wnid in tree:
            tree[wnid][name] = f"{val}/{name}"
        else:
            wrong.append(f"{name} ({wnid or 'not listed'})")
    if wrong:
        which = f"{len(wrong):,} images of {printable(val)}"
        raise ValueError(f"{which} have no class of {train.where} in {where}: {first_few(wrong, 3)}")
    return Part(printable(val), {wnid: inside for wnid, inside in tree.items() if inside})


def read_truth(top: Path, val: Path) -> tuple[str, Mapping[int, str]]:
    """Return the file that lists the classes of the validation images, and {number of an image: WordNet id}."""
    places = [top, val, val.parent, top / "data", *sorted(top.glob("ILSVRC2012_devkit*/data")), top / "devkit/data"]
    for place in places:
        if (place / SOLUTION).is_file():
            return printable(place / SOLUTION), dict(_solution(place / SOLUTION))
    for place in places:
        if (place / TRUTH).is_file():
            wnids = read_ids(place)
            lines = (place / TRUTH).read_text(encoding="ascii").split()
            unknown = [line for line in lines if not line.isdigit() or int(line) not in wnids]
            if unknown:
                raise ValueError(f"{printable(place / TRUTH)} holds {first_few(map(printable, unknown), 3)}, no class")
            return printable(place / TRUTH), {number: wnids[int(line)] for number, line in enumerate(lines, 1)}
    raise FileNotFoundError(
        f"data.root={printable(top)}: val/ is flat, and no list of its classes is there. Put {TRUTH} and {META} of the "
        f"devkit, or Kaggle's {SOLUTION}, into data.root"
    )


def _solution(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number of an image, WordNet id) of Kaggle's list, whose second column is ``wnid x y x y wnid ...``."""
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.reader(file):
            number = row and re.fullmatch(r"ILSVRC2012_val_(\d{8})", row[0])
            wnid = len(row) > 1 and WNID.match(row[1])
            if number and wnid:
                yield int(number[1]), wnid[0]


def read_ids(place: Path) -> dict[int, str]:
    """Return {ILSVRC2012_ID: WordNet id} of the devkit.

    The ids 1 to 1000 of the ground truth are not the order of the WordNet ids.
    """
    if (place / MAP).is_file():
        lines = [line.split() for line in (place / MAP).read_text(encoding="utf-8").splitlines() if line.strip()]
        return {int(number): wnid for wnid, number, *_ in lines}
    if not (place / META).is_file():
        raise FileNotFoundError(f"{printable(place)} holds {TRUTH}, but neither {META} nor {MAP}, which explain it")
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ValueError(f"{META} needs scipy: pip install scipy") from error
    synsets = loadmat(str(place / META), squeeze_me=True, struct_as_record=False)["synsets"]
    return {int(each.ILSVRC2012_ID): str(each.WNID) for each in synsets if int(each.num_children) == 0}
