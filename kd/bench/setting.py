"""What is benchmarked: the images, the networks, the batch, and the rest that every job has in common."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from torch import nn

from kd.bench.torch_state import own_torch_state
from kd.build import ModelBuilder
from kd.config.composed import compose_checked
from kd.data.dataset import ImageDataset
from kd.data.sizing import Sizing
from kd.pipeline.plan import RunPlan
from kd.pipeline.prepare import prepare

LARGEST_DRAWING = 128  # pixels of a drawn scene; larger images are enlarged from it
VAL_FRACTION = 0.12  # of the drawn images, as in conf/data/scenes.yaml


@dataclass(frozen=True)
class Setting:
    """One benchmark, apart from which jobs it runs. All jobs have it in common, except for ``precision``."""

    folder: str  # images, decoded data and logit caches are written here
    overrides: tuple[str, ...] = ()  # further arguments of python -m kd.run
    images: int = 384  # training images of an epoch
    batch_size: int = 64
    image_size: int = 100  # pixels
    epochs: int = 1  # that one call trains
    threads: int | None = None  # of torch, in every job; None: torch decides
    workers: int = min(4, os.cpu_count() or 1)  # of a DataLoader, in the jobs that have one
    students: int = 1  # that a one-pass sweep trains at once

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(text: str) -> Setting:
        values = json.loads(text)
        return Setting(**{**values, "overrides": tuple(values["overrides"])})

    def arguments(self, *more: str) -> list[str]:
        """Return the arguments of ``python -m kd.run`` for this setting."""
        size = min(self.image_size, LARGEST_DRAWING)
        drawn = [
            f"data.image_size={size}",
            f"data.train_images={max(12, round(self.images / (1 - VAL_FRACTION)))}",
            "data.test_images=60",
        ]
        own = [*self.overrides, *more]
        given = {argument.partition("=")[0] for argument in own}
        common = [
            f"outputs={self.folder}/outputs",
            f"train.batch_size={self.batch_size}",
            f"train.student.epochs={self.epochs}",
            "teacher.allow_weak=true",
            "tracking=disabled",
        ]
        if self.threads:
            common.append(f"train.threads={self.threads}")
        drawn = drawn if "data" not in given else [f"data.image_size={self.image_size}"]
        return [argument for argument in [*drawn, *common] if argument.partition("=")[0] not in given] + own


@dataclass(frozen=True)
class Setup:
    """The data and the initialised networks of a setting. A job trains copies of the networks."""

    setting: Setting
    plan: RunPlan  # of the run with these settings: objective, recipe, device
    dataset: ImageDataset
    teacher: nn.Module
    student: nn.Module

    @property
    def temperature(self) -> float:
        return self.plan.settings["kd"]["temperature"]

    @property
    def alpha(self) -> float:
        """The weight of the teacher's term."""
        return self.plan.settings["kd"]["alpha"]


def set_up(setting: Setting) -> Setup:
    """Make data and networks, as a run does.

    The teacher is not trained: its speed does not depend on its weights.

    Raises:
        ValueError: an argument is wrong, or the method is not ``kd=hinton``, the only one of the other programs.
    """
    cfg, choices = compose_checked(setting.arguments("baseline=false"))
    if choices["kd"] != "hinton":
        raise ValueError(f"the benchmark compares programs by kd=hinton, got kd={choices['kd']}")
    with own_torch_state():
        plan = prepare(cfg, choices)
        if len(plan.teachers) > 1 or len(plan.taught) > 1:
            raise ValueError("the benchmark has one teacher and one student")
        dataset = subset(resized(plan.dataset, setting.image_size), setting.images)
        builder = ModelBuilder(dataset, plan.builder.specs, None)
        return Setup(setting, plan, dataset, builder.build("teacher"), builder.build("student"))


def subset(dataset: ImageDataset, images: int) -> ImageDataset:
    """Return ``dataset`` with this many training images: the first, or all of them again and again."""
    return dataclasses.replace(dataset, train=np.resize(dataset.train, images))


def resized(dataset: ImageDataset, size: int) -> ImageDataset:
    """Return ``dataset`` with images of ``size`` pixels a side."""
    if dataset.image_size == size:
        return dataset
    images = np.stack([np.asarray(Image.fromarray(image.squeeze()).resize((size, size))) for image in dataset.images])
    return dataclasses.replace(dataset, images=images.reshape(len(images), size, size, -1), size=Sizing(size))


def image_folder(dataset: ImageDataset, folder: Path) -> tuple[Path, Path]:
    """Write training and validation images as PNG files, ``train/<class>/<number>.png`` and ``val/...``, once.

    PNG is lossless, so every job reads the same pixels.
    """
    roots = folder / "train", folder / "val"
    for root, positions in zip(roots, (dataset.train, dataset.val), strict=True):
        if root.exists():
            continue
        for number in range(len(dataset.classes)):  # torchvision numbers the folders in the order of their names
            (root / f"{number:04d}").mkdir(parents=True)
        for row, position in enumerate(positions):
            image = Image.fromarray(dataset.images[position].squeeze()).convert("RGB")
            image.save(root / f"{dataset.targets[position]:04d}" / f"{row:06d}.png")
    return roots


def share_data(setting: Setting, name: str) -> Path:
    """Make a new outputs folder with the decoded data of this benchmark and nothing else; return it."""
    folder = Path(setting.folder).absolute() / name
    folder.mkdir()
    (folder / "data").symlink_to(folder.parent / "outputs" / "data", target_is_directory=True)
    return folder
