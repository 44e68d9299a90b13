"""Knowledge Distillation Meets Self-Supervision (Xu, Liu, Li, Loy, ECCV 2020), https://arxiv.org/abs/2006.07114: SSKD.

The sampler ``rotations`` shows each image in four rows: as it is, and turned by 90, 180 and 270 degrees. Three terms
stand beside the labels, which are learnt for the upright images alone:

- ``soft``: T^2 KL of the upright images' logits, as ``kd=hinton``.
- ``transformed``: the same of the turned images.
- ``similarity``: a head of two linear layers on the embedding says, for each turned image, how similar each upright
  image of the batch is (a cosine), and the student's softmax over these learns from the teacher's.

The teacher errs on turned images. Of the rows for which it ranks the true class (or image) first, all are kept; of the
others the share ``keep``, those of the best ranks.

The teacher's head learns before the student, to find the image that was turned; the teacher itself stays as it is. The
published head learns in 60 epochs of augmented images, for which the teacher answers 240 times for each image. Here it
answers four times, without augmentation, and the head learns from these embeddings, for some microseconds an image and
epoch. Of larger data sets ``HEAD_IMAGES`` images at equal distances are used. In every step there are three more images
for each one, for student and teacher: about four times the time and memory.

Values agree with the authors' code for given outputs. Which of several rows of one rank are kept is not defined there;
here it is those of the first images.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.interfaces import Batch, Context, Outputs
from kd.methods._common import check_batch, check_embedding
from kd.methods.hinton import Hinton, soft_label_kl_each
from kd.methods.rkd import rows_of_length_one

TURNS = 4  # rows of an image
HEAD_IMAGES = 50_000  # that the teacher's head learns from
HEAD_BATCH = 64  # images of a step of it, as published


def by_image(rows: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Divide the rows of a batch, [4 B, ...], into [B, ...] of the upright images and [3 B, ...] of their rotations.

    The three rotations of an image are beside each other.

    Raises:
        RuntimeError: the batch has no rotations.
    """
    if batch.views != TURNS:
        raise RuntimeError(f"kd=sskd asks for a sampler of {TURNS} blocks, and this batch has {batch.views}")
    images = rows.unflatten(0, (TURNS, -1)).transpose(0, 1)
    return images[:, 0], images[:, 1:].flatten(0, 1)


def kept(scores: Tensor, right: Tensor, keep: float | Tensor) -> Tensor:
    """Return which rows to learn from, bool [M]: those whose right answer ranks first, and a share of the others.

    Args:
        scores: [M, N], the teacher's. right: int64 [M]. keep: share of the other rows, rounded down; best ranks first.
    """
    ranks = (scores > scores.gather(-1, right[:, None])).sum(-1)
    wrong = (ranks > 0).sum()
    count = len(ranks) - wrong + (wrong * keep).floor()
    places = ranks.argsort(stable=True).argsort()
    return places < count


def kept_kl(
    student: Tensor, teacher: Tensor, right: Tensor, temperature: float | Tensor, keep: float | Tensor
) -> Tensor:
    """Return T^2 KL(softmax(teacher / T) || softmax(student / T)), summed over N, mean over the rows ``kept``.

    Args:
        student, teacher: [M, N], logits or similarities.
    """
    rows = kept(teacher, right, keep)
    each = soft_label_kl_each(student, teacher, temperature)
    return torch.where(rows, each, 0.0).sum() / rows.sum().clamp(min=1)


def similarities(upright: Tensor, turned: Tensor) -> Tensor:
    """Return the cosines of B images' features [B, D] with those of their rotations [3 B, D]: [3 B, B]."""
    return rows_of_length_one(turned) @ rows_of_length_one(upright).T


def own_image(upright: int, device: torch.device) -> Tensor:
    """Return which of the upright images each rotation belongs to, int64 [3 B]."""
    return torch.arange(upright, device=device).repeat_interleave(TURNS - 1)


def head(width: int) -> nn.Sequential:
    """Return the published head, [B, width] -> [B, width]."""
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))


@torch.enable_grad()
def learn_head(layers: nn.Module, embeddings: Tensor, epochs: int, rate: float, generator: torch.Generator) -> None:
    """Train a head to find the image that was turned, with the published optimiser.

    Args:
        embeddings: [N, 4, D], of images and their rotations. rate: divided by 10 at a half and three quarters.
        generator: orders the images, on the CPU.
    """
    optimizer = torch.optim.SGD(layers.parameters(), rate, momentum=0.9, weight_decay=5e-4)
    decay = torch.optim.lr_scheduler.MultiStepLR(optimizer, [epochs // 2, 3 * epochs // 4])
    for _ in range(epochs):
        order = torch.randperm(len(embeddings), generator=generator).to(embeddings.device)
        for rows in order.split(HEAD_BATCH):
            features = layers(embeddings[rows])
            scores = similarities(features[:, 0], features[:, 1:].flatten(0, 1))
            optimizer.zero_grad()
            F.cross_entropy(scores, own_image(len(rows), scores.device)).backward()
            optimizer.step()
        decay.step()
    optimizer.zero_grad()  # what is left would count where the student's gradients are clipped


class Soft(Hinton):
    """The soft-label term of the upright images.

    Args:
        temperature: T of both softmaxes.
    """

    sampler = "rotations"

    def __init__(self, temperature: float | Tensor = 4.0):
        super().__init__(temperature)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        (own, _), (given, _) = by_image(student.logits, batch), by_image(teacher.logits, batch)
        return super().forward(Outputs(own), Outputs(given), batch)


class Transformed(nn.Module):
    """``kept_kl`` of the turned images' logits.

    Args:
        keep: share of the rows to keep for which the teacher is wrong, in [0, 1].
    """

    needs = frozenset({"logits"})
    needs_labels = True  # of every image, for the rank
    sampler = "rotations"

    def __init__(self, temperature: float | Tensor = 4.0, keep: float | Tensor = 1.0):
        super().__init__()
        _check("transformed", temperature, keep)
        self.temperature, self.keep = temperature, keep

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Nothing to build."""

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        (_, own), (_, given), (_, right) = (by_image(x, batch) for x in (student.logits, teacher.logits, batch.target))
        return kept_kl(own, given, right, self.temperature, self.keep)


class Similarity(nn.Module):
    """``kept_kl`` of the similarities of turned and upright images, by a head of each network.

    Args:
        keep: as of ``Transformed``.
        head_epochs: of the teacher's head, before the student learns. head_lr: its learning rate.
    """

    needs = frozenset({"embedding"})
    sampler = "rotations"

    def __init__(
        self,
        temperature: float | Tensor = 0.5,
        keep: float | Tensor = 0.75,
        head_epochs: int = 60,
        head_lr: float = 0.05,
    ):
        super().__init__()
        _check("similarity", temperature, keep)
        if head_epochs < 0 or not head_lr > 0:
            raise ValueError(
                f"kd.head_epochs must be 0 or more and kd.head_lr above 0, got {head_epochs} and {head_lr}"
            )
        self.temperature, self.keep = temperature, keep
        self.head_epochs, self.head_lr = head_epochs, head_lr
        self.context: Context | None = None

    def bind(self, context: Context) -> None:
        """Keep the context for the pass over the training images in ``setup``."""
        self.context = context

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Build both heads and train the teacher's.

        Raises:
            ValueError: a teacher without an embedding.
        """
        check_embedding(teacher, "kd=sskd")
        if self.context is None:
            raise RuntimeError("the teacher's head of kd=sskd learns from the training images: call bind before setup")
        self.student, own = head(student.embedding.shape[-1]), head(teacher.embedding.shape[-1])
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        embeddings = embeddings_of(self.context)
        self.context = None  # it holds networks, which are not this term's
        learn_head(own.to(embeddings.device), embeddings, self.head_epochs, self.head_lr, generator)
        self.teacher = own.requires_grad_(False)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        check_batch(len(batch.index) // batch.views, "kd=sskd")
        own = similarities(*by_image(self.student(student.embedding), batch))
        given = similarities(*by_image(self.teacher(teacher.embedding), batch))
        return kept_kl(own, given, own_image(own.shape[-1], own.device), self.temperature, self.keep)


@torch.no_grad()
def embeddings_of(context: Context) -> Tensor:
    """Return the teacher's embeddings of training images and their rotations, [N, 4, D], N <= ``HEAD_IMAGES``."""
    needs, found, seen = frozenset({"embedding"}), [], 0
    step = -(-len(context.train) // HEAD_IMAGES)
    for outputs, batch in context.over_train(context.teacher, needs):
        rows = slice(-seen % step, None, step)
        image, upright = batch.image[rows], outputs.embedding[rows]
        seen += len(batch.image)
        if len(image):
            turned = [context.forward(context.teacher, torch.rot90(image, n, (2, 3)), needs) for n in range(1, TURNS)]
            found.append(torch.stack([upright, *(each.embedding for each in turned)], 1))
    return torch.cat(found)


def _check(term: str, temperature: float | Tensor, keep: float | Tensor) -> None:
    if not isinstance(temperature, Tensor) and not temperature > 0:
        raise ValueError(f"kd.{term}_temperature must be above 0, got {temperature}")
    if not isinstance(keep, Tensor) and not 0 <= keep <= 1:
        raise ValueError(f"kd.{term}_keep is a share and must lie in [0, 1], got {keep}")
