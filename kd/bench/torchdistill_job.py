"""The same job by torchdistill (https://github.com/yoshitomo-matsubara/torchdistill), version 1.1.5, from PyPI.

Its own distillation box makes the data loaders, hooks the classifiers of both networks, computes its KD criterion and
steps the optimiser, and its metric logger reads the loss of every step, as in the example of image classification that
comes with it. The images, transforms and networks are those of the naive job. The teacher is passed in eval mode, which
the box leaves as it is (the example passes it in train mode).

torchdistill needs the extra: ``pip install -e ".[bench]"``.
"""

from __future__ import annotations

import copy
import importlib.util
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.data import RandomSampler, SequentialSampler

from kd.bench.job import Job
from kd.bench.naive import folders
from kd.bench.parts import Parts

HINT = 'torchdistill is not installed: pip install -e ".[bench]"'
LOG_EVERY = 1000  # batches between two lines of its log, as in its samples


def is_installed() -> bool:
    return importlib.util.find_spec("torchdistill") is not None


def classifier_of(network: nn.Module, classes: int) -> str:
    """Return the name of the last linear layer with one output a class, to hook it; "." (the network) if none has."""
    linear = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == classes
    ]
    return linear[-1] if linear else "."


@contextmanager
def quiet_root_logger() -> Iterator[None]:
    """torchdistill logs to the root logger."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


class TorchDistill(Job):
    name = "torchdistill"
    precision = "float32"

    def prepare(self) -> dict[str, float]:
        train, val = folders(self.setup)
        self.datasets = {"train": train, "val": val}
        return {}

    def refresh(self) -> None:
        self.teacher = copy.deepcopy(self.setup.teacher).eval()
        self.student = copy.deepcopy(self.setup.student)
        self.watching: Parts | None = None

    def config(self) -> dict[str, Any]:
        """Return what its yaml files say, see configs/sample/cifar10/kd in its repository."""
        setting, recipe = self.setup.setting, self.setup.plan.stages["student"].recipe
        batch = min(setting.batch_size, len(self.datasets["train"]))
        loader = {"batch_size": batch, "num_workers": setting.workers, "pin_memory": torch.cuda.is_available()}
        teacher, student = (classifier_of(net, len(self.setup.dataset.classes)) for net in (self.teacher, self.student))
        criterion = {
            "key": "KDLoss",
            "kwargs": {
                "student_module_path": student,
                "student_module_io": "output",
                "teacher_module_path": teacher,
                "teacher_module_io": "output",
                "temperature": self.setup.temperature,
                "alpha": 1 - self.setup.alpha,  # the weight of the labels
                "reduction": "batchmean",
            },
        }
        hooks = {role: {"output": [path] if path != "." else []} for role, path in (("t", teacher), ("s", student))}
        return {
            "num_epochs": setting.epochs,
            "train_data_loader": {
                "dataset_id": "train",
                "sampler": {"class_or_func": RandomSampler},
                "kwargs": {**loader, "drop_last": True},
            },
            "val_data_loader": {
                "dataset_id": "val",
                "requires_supp": False,
                "sampler": {"class_or_func": SequentialSampler},
                "kwargs": loader,
            },
            "teacher": {"forward_proc": "forward_batch_only", "forward_hook": hooks["t"], "requires_grad": False},
            "student": {"forward_proc": "forward_batch_only", "forward_hook": hooks["s"], "requires_grad": True},
            "optimizer": {"key": "AdamW", "kwargs": {"lr": recipe.lr, "weight_decay": recipe.weight_decay}},
            "criterion": {
                "key": "WeightedSumLoss",
                "kwargs": {"sub_terms": {"kd": {"criterion": criterion, "weight": 1.0}}},
            },
        }

    def train(self) -> None:
        with quiet_root_logger():
            self._train()

    def _train(self) -> None:
        from torchdistill.core.distillation import get_distillation_box
        from torchdistill.misc.log import MetricLogger, SmoothedValue

        device = self.setup.plan.device.device
        box = get_distillation_box(self.teacher, self.student, self.datasets, self.config(), device, None, False, 1)
        for epoch in range(box.num_epochs):
            box.pre_epoch_process(epoch=epoch)
            meters = MetricLogger(delimiter="  ")
            meters.add_meter("lr", SmoothedValue(window_size=1, fmt="{value}"))
            meters.add_meter("img/s", SmoothedValue(window_size=10, fmt="{value}"))
            for image, target, more in meters.log_every(box.train_data_loader, LOG_EVERY, f"Epoch: [{epoch}]"):
                began = time.time()
                image, target = image.to(device), target.to(device)
                loss = box.forward_process(image, target, more)
                box.post_forward_process(loss=loss)
                meters.update(loss=loss.item(), lr=box.optimizer.param_groups[0]["lr"])
                meters.meters["img/s"].update(len(image) / (time.time() - began))
                if torch.isnan(loss) or torch.isinf(loss):
                    raise ValueError(f"the loss is {loss}")
            self.train_loss = meters.loss.global_avg
            self.val_accuracy = self.evaluate(box.student_model, box.val_data_loader)
            box.post_epoch_process()
        box.clean_modules()

    @torch.inference_mode()
    def evaluate(self, network: nn.Module, loader: Any) -> float:
        from torchdistill.misc.log import MetricLogger

        device, meters = self.setup.plan.device.device, MetricLogger(delimiter="  ")
        network.eval()
        for image, target in meters.log_every(loader, LOG_EVERY, "Validation:"):
            hits = (network(image.to(device)).argmax(1) == target.to(device)).float().mean()
            meters.update(accuracy=hits.item())
        return meters.accuracy.global_avg

    def watch(self, parts: Parts) -> None:
        parts.on_calls("teacher", self.teacher, "forward")
        parts.on_calls("student forward", self.student, "forward")
        self.evaluate = parts.timed("validation", type(self).evaluate.__get__(self))
