"""Batches from a decoded data set: no worker processes, no decoding, and all randomness comes from the seed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from kd.augment.chain import Chain, Step
from kd.augment.mixing import mix
from kd.data.dataset import ImageDataset
from kd.data.epoch_plan import EpochPlan, plan_epoch
from kd.data.pixels import Pixels, Wanted
from kd.data.samplers import BLOCKS, LEARNING, check_sampler, half_previous, same_class_pairs
from kd.interfaces import ROWS, Batch
from kd.runtime.user_warnings import warn_user

EVAL_BATCH = 128  # images of a batch in evaluation
BALANCES = ("none", "sample", "weight")


class Loader:
    """Yield batches of one data set on one device.

    Args:
        batch_size: images of a training batch. An epoch leaves out an incomplete last batch (each epoch leaves out
            other images), unless it is the only one.
        seed: determines order and views, together with the epoch.
        balance: how training treats rare classes. "sample" draws all classes equally often: an image of a rare class
            appears several times an epoch (in the same view), and some images of a common class do not appear.
            "weight" adds class weights to every batch, see ``class_weights``.
        augment: the steps that make the training views. second: those that make the second view; None: the same.
        mixup, cutmix: probabilities that another training image is mixed into a training view, or pasted into it.
        views: of each training image, all in one batch, see ``Batch.views``.
        grad_accum_steps: number of micro-batches of a batch, computed one after another if a batch does not fit into
            memory. Their sizes differ by at most one image, see ``sizes``.
        view_epochs: epochs that have an order and views of their own; later epochs repeat them in turn. None: all have.
        sampler: what a batch holds beside its ``batch_size`` images, see ``kd.data.samplers``; None: nothing. It also
            says how many blocks of rows there are, which are the batch's ``views``.

    Raises:
        ValueError: for a batch or a micro-batch of fewer than 2 images, or an unknown balance.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        batch_size: int,
        seed: int,
        device: torch.device,
        mixup: float = 0.0,
        grad_accum_steps: int = 1,
        balance: str = "none",
        augment: Sequence[Step] = (),
        views: int = 1,
        cutmix: float = 0.0,
        second: Sequence[Step] | None = None,
        sampler: str | None = None,
        view_epochs: int | None = None,
    ):
        if balance not in BALANCES:
            raise ValueError(f"data.balance must be one of {', '.join(BALANCES)}, got {balance!r}")
        if batch_size < 2:
            raise ValueError(
                f"train.batch_size must be at least 2 (batch norm needs more than one image), got {batch_size}"
            )
        if len(dataset.train) < 2:
            raise ValueError(
                f"training needs at least 2 images (batch norm needs more than one), got {len(dataset.train)}"
            )
        if batch_size > len(dataset.train):
            warn_user(
                f"train.batch_size={batch_size} exceeds the {len(dataset.train)} training images, "
                "so one batch holds all of them"
            )
        self.batch_size = min(batch_size, len(dataset.train))
        if not 1 <= grad_accum_steps <= self.batch_size // 2:
            raise ValueError(
                f"train.grad_accum_steps must lie between 1 and {self.batch_size // 2}, so that each micro-batch of a "
                f"batch of {self.batch_size} has at least 2 images (batch norm needs more than one); "
                f"got {grad_accum_steps}"
            )
        check_sampler(sampler, mixup, cutmix)
        self.dataset, self.seed, self.device = dataset, seed, device
        self.sampler, self.views = sampler, BLOCKS.get(sampler, views)
        self.chain, self.second = self._chain(augment), None if second is None else self._chain(second)
        self.mixup, self.cutmix, self.view_epochs = mixup, cutmix, view_epochs
        self.grad_accum_steps, self.balance = grad_accum_steps, balance
        self._weights: Tensor | None = None
        if balance == "weight":
            weights = class_weights(dataset.targets[dataset.train], len(dataset.classes))
            self._weights = torch.from_numpy(weights).float().to(device)
        self.train, self.targets, self.labelled = dataset.train, dataset.targets, None
        self._pixels = Pixels([dataset.images, *([dataset.unlabelled.images] if dataset.unlabelled else [])], device)

    def _chain(self, steps: Sequence[Step]) -> Chain:
        return Chain(steps, self.dataset.images.shape[1], self.dataset.image_size, self.dataset.crop_pct)

    @property
    def chains(self) -> list[Chain]:
        """What makes each view of an image; a sampler's blocks of rows are no such views."""
        views = 1 if self.sampler else self.views
        return [self.second if view == 1 and self.second else self.chain for view in range(views)]

    def with_seed(
        self,
        seed: int,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        views: int = 1,
        unlabelled: bool = False,
        second: Sequence[Step] | None = None,
        sampler: str | None = None,
        view_epochs: int | None = None,
    ) -> Loader:
        """Return a loader with another order and other views that shares the images on the device.

        Args:
            unlabelled: whether epochs show the images without labels too, if there are any, with the target -1.
            second: the steps that make the second view; None: those of ``augment``.

        Raises:
            ValueError: as ``check_sampler``.
        """
        other, dataset = copy.copy(self), self.dataset
        check_sampler(sampler, mixup, cutmix)
        other.seed, other.mixup, other.cutmix, other.view_epochs = seed, mixup, cutmix, view_epochs
        other.sampler, other.views = sampler, BLOCKS.get(sampler, views)
        other.second = None if second is None else self._chain(second)
        other.train, other.targets, other.labelled = dataset.train, dataset.targets, None
        if unlabelled and (dataset.unlabelled or dataset.hidden is not None):
            count = len(dataset.unlabelled.images) if dataset.unlabelled else 0
            hidden = [] if dataset.hidden is None else [dataset.hidden]
            other.targets = np.concatenate([dataset.targets, np.full(count, -1)])
            others = np.concatenate([*hidden, np.arange(len(dataset.targets), len(other.targets))])
            other.train, other.targets[others] = np.concatenate([dataset.train, others]), -1
            other.labelled = len(dataset.train) / len(other.train)
        return other

    @property
    def stream(self) -> tuple[int, float, float, int, bool, tuple[Step, ...] | None, str | None, int | None]:
        """What distinguishes the batches of this loader from those of others that share its images."""
        second = self.second and self.second.steps
        mixing, labelled = (self.mixup, self.cutmix), self.labelled is not None
        return self.seed, *mixing, self.views, labelled, second, self.sampler, self.view_epochs

    def view_epoch(self, epoch: int) -> int:
        """Return the epoch whose order and views this one shows: itself, if none is repeated."""
        return (epoch - 1) % self.view_epochs + 1 if self.view_epochs else epoch

    @property
    def steps(self) -> int:
        """Training batches of an epoch; each is yielded in ``grad_accum_steps`` micro-batches."""
        return len(self.train) // self.batch_size

    @property
    def shown(self) -> int:
        """Images that an epoch shows."""
        return self.steps * self.batch_size

    @property
    def sizes(self) -> list[int]:
        """Images in each micro-batch of a batch, in order."""
        return [len(part) for part in np.array_split(np.arange(self.batch_size), self.grad_accum_steps)]

    def order(self, epoch: int) -> np.ndarray:
        """Return the positions of the images of an epoch, batch after batch."""
        generator = np.random.default_rng([self.seed, self.view_epoch(epoch)])
        train, count = self.train, self.shown
        if self.balance == "sample":
            return train[balanced(self.targets[train], count, generator)]
        return generator.permutation(train)[:count]

    def beside(self, epoch: int, order: np.ndarray) -> np.ndarray | None:
        """Return the positions of the images that a sampler puts beside those of ``order``; None: no other images."""
        if self.sampler == "same_class_pairs":
            generator = np.random.default_rng([self.seed, self.view_epoch(epoch), 1])
            return same_class_pairs(order, self.train, self.targets, generator)
        if self.sampler == "half_previous":
            # an image is mixed with another one in another epoch: the first step has nothing to go back to
            mixed, last = self.mixup or self.cutmix, self.order(max(epoch - 1, 0))[-self.batch_size :]
            return half_previous(order, self.batch_size, None if mixed else last)
        return None

    def shown_by_view(self, epoch: int) -> list[np.ndarray]:
        """Return the positions of the images that an epoch shows in each of the ``views``."""
        order = self.order(epoch)
        beside = self.beside(epoch, order)
        return [order] * self.views if beside is None else [order, beside]

    def plan(self, epoch: int) -> EpochPlan:
        """Return what an epoch shows, on the device: a pure function of (seed, epoch)."""
        order = self.order(epoch)
        partners = order if self.balance == "sample" else self.train
        return plan_epoch(
            order,
            self.targets,
            self.chains,
            self.seed,
            self.view_epoch(epoch),
            self.device,
            self.mixup,
            self.cutmix,
            partners,
            beside=self.beside(epoch, order),
        )

    def epoch(
        self, epoch: int, part: Callable[[np.ndarray], np.ndarray] = lambda whole: whole, start: int = 0
    ) -> Iterator[Batch]:
        """Yield the training batches of an epoch as micro-batches: a pure function of (seed, epoch).

        Args:
            part: returns a contiguous part of the rows of a micro-batch; each of several processes takes its slice.
            start: the first step that is yielded; the views of earlier steps are not made.
        """
        plan = self.plan(epoch)
        steps = np.arange(self.shown).reshape(self.steps, self.batch_size)[start:]
        parts = [part(rows) for step in steps for rows in np.array_split(step, self.grad_accum_steps)]
        slices = [slice(int(rows[0]), int(rows[-1]) + 1) if len(rows) else slice(0) for rows in parts]
        blocks = [plan] if plan.beside is None else [plan, plan.beside]
        plans = [one for block in blocks for one in (block, block.partner) if one is not None]
        wanted = ([Wanted(one.positions[rows], one.index[rows]) for one in plans] for rows in slices)
        for rows, pixels in zip(slices, self._pixels.stream(wanted), strict=True):
            images = [self._views(to_unit_range(x), one, rows) for x, one in zip(pixels, plans, strict=True)]
            each = len(images) // len(blocks)
            made = [self._block(images[each * n : each * n + each], b, rows, epoch) for n, b in enumerate(blocks)]
            yield self._whole(made, rows)

    def _block(self, images: list[Tensor], plan: EpochPlan, rows: slice, epoch: int) -> Batch:
        """Return the rows of one plan: its views, mixed with those of its partner if there is one."""
        batch = Batch(images[0], plan.target[rows], plan.index[rows], epoch, class_weight=self._weights)
        batch = batch if self.labelled is None else batch._replace(labelled=self.labelled)
        return batch if plan.partner is None else _mix(batch, images[1], plan, rows)

    def _whole(self, blocks: list[Batch], rows: slice) -> Batch:
        """Return one batch of these blocks of rows, or of one and what the sampler makes of it."""
        if self.sampler is None:
            return blocks[0].repeat_labels(self.views)
        if self.sampler == "rotations":
            image = torch.cat([torch.rot90(blocks[0].image, turns, (2, 3)) for turns in range(self.views)])
            batch = blocks[0]._replace(image=image).repeat_labels(self.views)
        else:
            names = [name for name in ROWS if getattr(blocks[0], name) is not None]
            joined = {name: torch.cat([getattr(block, name) for block in blocks]) for name in names}
            batch = blocks[0]._replace(**joined, views=self.views)
        return batch._replace(first_row=rows.start % self.batch_size, label_blocks=LEARNING[self.sampler])

    def _views(self, image: Tensor, plan: EpochPlan, rows: slice) -> Tensor:
        """Return the views of stored images, [V*B, 3, size, size], all images of a view together."""
        views = [chain.apply(image, drawn.rows(rows)) for chain, drawn in zip(self.chains, plan.views, strict=True)]
        return views[0] if len(views) == 1 else torch.cat(views)

    def eval_batches(self, positions: np.ndarray, batch_size: int | None = None) -> Iterator[Batch]:
        """Yield all images at ``positions``, unaugmented and in this order.

        Args:
            batch_size: None for ``EVAL_BATCH`` images, divided by ``grad_accum_steps``.
        """
        batch_size = batch_size or max(1, EVAL_BATCH // self.grad_accum_steps)
        positions = np.ascontiguousarray(positions)
        index, target = (torch.from_numpy(x).to(self.device) for x in (positions, self.dataset.targets[positions]))
        slices = [slice(start, start + batch_size) for start in range(0, len(positions), batch_size)]
        wanted = ([Wanted(positions[rows], index[rows])] for rows in slices)
        for rows, (pixels,) in zip(slices, self._pixels.stream(wanted), strict=True):
            yield Batch(self.chain.centre(to_unit_range(pixels)), target[rows], index[rows])


def to_unit_range(pixels: Tensor) -> Tensor:
    """Return images in [0, 1]: uint8 [B, H, W, C], C 1 or 3, to float32 [B, 3, H, W]."""
    return pixels.permute(0, 3, 1, 2).float().div_(255).expand(-1, 3, -1, -1)


def _mix(batch: Batch, partner: Tensor, plan: EpochPlan, rows: slice) -> Batch:
    """Mix the views of the partners into those of a batch."""
    weight, box, views = plan.weight[rows], None if plan.box is None else plan.box[rows], len(plan.views)
    boxes = None if box is None else box.repeat(views, 1)
    image = mix(batch.image, partner, weight.repeat(views), boxes)
    return batch._replace(image=image, mixup_target=plan.partner.target[rows], mixup_lam=weight)


def balanced(targets: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Return ``count`` rows of ``targets`` in random order, with all present classes equally often (up to one row).

    So an image is drawn with a probability inverse to the size of its class. Within a class the numbers of draws
    differ by at most one: some images of a common class are left out (which ones depends on the generator), and all
    images of a rare class repeat.

    Args:
        targets: int64 [N].
    """
    present, which = np.unique(targets, return_inverse=True)
    labels = generator.permutation(np.resize(generator.permutation(len(present)), count))
    rows = np.empty(count, np.int64)
    for members, places in zip(_by_label(which, len(present)), _by_label(labels, len(present)), strict=True):
        rounds = [generator.permutation(members) for _ in range(0, len(places), len(members))]
        rows[places] = np.concatenate([members[:0], *rounds])[: len(places)]
    return rows


def _by_label(labels: np.ndarray, count: int) -> list[np.ndarray]:
    """Return the positions of each of ``count`` labels."""
    return np.split(np.argsort(labels, kind="stable"), np.bincount(labels, minlength=count).cumsum()[:-1])


def class_weights(targets: np.ndarray, classes: int) -> np.ndarray:
    """Return [K], N / (present classes x images of the class), 0 for a class without images.

    The mean over the images of ``targets`` is 1.
    """
    counts = np.bincount(targets, minlength=classes)
    return np.where(counts > 0, len(targets) / (np.count_nonzero(counts) * np.maximum(counts, 1)), 0.0)
