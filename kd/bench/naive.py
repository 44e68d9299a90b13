"""Distillation as a person writes it in an afternoon: the job that the framework is compared with.

An ImageFolder, torchvision's transforms, a DataLoader with workers, both networks in float32 and torch's default memory
format, the teacher's forward pass in every step, ``F.kl_div`` and cross entropy, AdamW, and the loss and the accuracy
of every step read with ``.item()``. No line is slower than a person would write it: the teacher is in eval mode and
without gradients, and validation too.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from kd.augment.affine import Affine
from kd.augment.chain import Step
from kd.augment.color_jitter import ColorJitter
from kd.augment.flip import Flip
from kd.augment.pad_crop import PadCrop
from kd.bench.job import Job
from kd.bench.parts import Parts
from kd.bench.setting import Setup, image_folder
from kd.train.recipe import Recipe


def view(steps: Sequence[Step], image_size: int) -> transforms.Compose:
    """Return torchvision's transform with the same kinds and strengths of augmentation.

    Raises:
        ValueError: a step that this loop does not have.
    """
    made: list[object] = []
    for step in steps:
        match step:
            case Affine():
                made += [transforms.RandomHorizontalFlip(step.flip)] if step.flip else []
                if step.shift or step.zoom or step.rotate:
                    shift, scale = (step.shift,) * 2, (1 - step.zoom, 1 + step.zoom)
                    made.append(transforms.RandomAffine(step.rotate, shift, scale, interpolation=BILINEAR))
            case Flip():
                made.append(transforms.RandomHorizontalFlip(step.probability))
            case PadCrop():
                made.append(transforms.RandomCrop(image_size, step.padding))
            case ColorJitter():
                made.append(transforms.ColorJitter(step.brightness, step.contrast, step.saturation, step.hue))
            case _:
                name, known = type(step).__name__, "none, light, default, characters or cifar"
                raise ValueError(f"the naive loop has no {name}: use augment={known}")
    return transforms.Compose([*made, transforms.ToTensor()])


BILINEAR = transforms.InterpolationMode.BILINEAR


def folders(setup: Setup) -> tuple[ImageFolder, ImageFolder]:
    """Return the training and the validation images as files."""
    name = f"images-{setup.dataset.image_size}-{len(setup.dataset.train)}"
    train, val = image_folder(setup.dataset, Path(setup.setting.folder) / name)
    return (
        ImageFolder(
            train, view(setup.plan.stages["student"].loader.chain.steps, setup.dataset.image_size), allow_empty=True
        ),
        ImageFolder(val, transforms.ToTensor(), allow_empty=True),
    )


class Naive(Job):
    """The loop of this file.

    Args:
        temperature, alpha: of the loss; None: those of the setup.
    """

    name = "naive"
    precision = "float32"

    def __init__(
        self, setup: Setup, plain: dict[str, object], temperature: float | None = None, alpha: float | None = None
    ):
        super().__init__(setup, plain)
        self.temperature, self.alpha = temperature or setup.temperature, setup.alpha if alpha is None else alpha

    def prepare(self) -> dict[str, float]:
        self.train_set, self.val_set = folders(self.setup)
        return {}

    def refresh(self) -> None:
        device = self.setup.plan.device.device
        self.teacher = copy.deepcopy(self.setup.teacher).to(device).eval()
        self.student = copy.deepcopy(self.setup.student).to(device)

    def train(self) -> None:
        fit_naively(self, self.student, self.teacher, self.setup.plan.stages["student"].recipe)

    def loss(self, logits: Tensor, teacher_logits: Tensor | None, target: Tensor) -> Tensor:
        if teacher_logits is None:
            return F.cross_entropy(logits, target)
        temperature, alpha = self.temperature, self.alpha
        student, teacher = F.log_softmax(logits / temperature, 1), F.softmax(teacher_logits / temperature, 1)
        soft = F.kl_div(student, teacher, reduction="batchmean") * temperature**2
        return (1 - alpha) * F.cross_entropy(logits, target) + alpha * soft

    def evaluate(self, network: nn.Module, loader: DataLoader) -> float:
        device, hits = self.setup.plan.device.device, 0
        network.eval()
        with torch.no_grad():
            for image, target in loader:
                hits += (network(image.to(device)).argmax(1) == target.to(device)).sum().item()
        return hits / len(loader.dataset)

    def watch(self, parts: Parts) -> None:
        parts.on_calls("teacher", self.teacher, "forward")
        parts.on_calls("student forward", self.student, "forward")
        self.evaluate = parts.timed("validation", type(self).evaluate.__get__(self))


def fit_naively(job: Naive, network: nn.Module, teacher: nn.Module | None, recipe: Recipe) -> None:
    """Train ``network`` for the epochs of the job's setting, with a live teacher or on labels alone."""
    setting, device = job.setup.setting, job.setup.plan.device.device
    pin, batch = device.type == "cuda", min(setting.batch_size, len(job.train_set))
    how = {"num_workers": setting.workers, "pin_memory": pin}
    loader = DataLoader(job.train_set, batch, shuffle=True, drop_last=True, **how)
    val_loader = DataLoader(job.val_set, batch, **how)
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    for _ in range(setting.epochs):
        network.train()
        total, hits, seen = 0.0, 0, 0
        for image, target in loader:
            image, target = image.to(device, non_blocking=pin), target.to(device, non_blocking=pin)
            teacher_logits = None
            if teacher is not None:
                with torch.no_grad():
                    teacher_logits = teacher(image)
            logits = network(image)
            loss = job.loss(logits, teacher_logits, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(target)
            hits += (logits.argmax(1) == target).sum().item()
            seen += len(target)
        job.train_loss, job.train_accuracy = total / seen, hits / seen
        job.val_accuracy = job.evaluate(network, val_loader)
