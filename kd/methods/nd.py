"""KD++: Improving Knowledge Distillation via Regularizing Feature Norm and Direction (Wang et al. 2023),
https://arxiv.org/abs/2305.17007: its ND loss.

The mean of the teacher's embeddings of a class is a direction, and the student's embedding of an image should point
along that of its class and be as long as the teacher's: the loss is 1 - <student, direction> / max(both lengths). A
shorter student gains by growing; of a longer one the cosine is left, in which its own length takes part. The means come
from one pass of the teacher over the training images before the training, without augmentation; it takes about a third
of the time that the teacher needs in one epoch. Costs a mean for each class, and where the widths of the embeddings
differ, batch norm, dropout and a linear layer on the student's side, as in the authors' code, in training only.

``kd=nd`` is KD++: labels, soft labels whose weight rises, and this. The direction is that of the label: for a mixture
of two images (mixup) of the one with the larger share. Embeddings of zeros have no direction, loss 1 and no gradient.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Context, Outputs
from kd.methods._common import check_embedding
from kd.methods.rkd import rows_of_length_one

DROPOUT = 0.5  # the authors', before the linear layer


def norm_direction(student: Tensor, teacher: Tensor, means: Tensor) -> Tensor:
    """Return the mean over B of 1 - <student, mean / |mean|> / max(|student|, |teacher|), a scalar.

    Args:
        student, teacher: [B, D]. means: [B, D], of the class of each image.
    """
    lengths = [torch.linalg.vector_norm(x, dim=-1) for x in (student, teacher)]
    longer = torch.maximum(lengths[0], lengths[1])
    along = (student * rows_of_length_one(means)).sum(-1)
    return (1 - along / longer.masked_fill(longer < 1e-12, torch.inf)).mean()


def class_means(outputs: Iterable[tuple[Outputs, Batch]], classes: int) -> Tensor:
    """Return the mean embedding of each class, [K, D]; zeros for a class without images."""
    sums, counts = 0.0, 0.0
    for shown, batch in outputs:
        of_class = torch.arange(classes, device=batch.target.device)[:, None] == batch.target  # [K, B]
        of_class = of_class.to(shown.embedding.dtype)
        sums, counts = sums + of_class @ shown.embedding, counts + of_class.sum(-1, keepdim=True)
    return sums / counts.clamp(min=1)


class NormDirection(nn.Module):
    """``norm_direction`` with the means of the teacher's embeddings over the training images."""

    needs = frozenset({"embedding"})
    needs_labels = True  # of every image

    def __init__(self):  # it has no settings; torch's own takes any
        super().__init__()
        self.read = None

    def bind(self, context: Context) -> None:
        """Remember how to compute the means; it is done in ``setup``, which runs only before a training."""
        teacher, over_train = context.teacher, context.over_train
        self.read = lambda classes: class_means(over_train(teacher, {"embedding"}), classes)

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Compute the means, and build the layers between embeddings of different widths.

        Raises:
            ValueError: a teacher without an embedding.
        """
        check_embedding(teacher, "kd=nd")
        if self.read is None:
            raise RuntimeError("kd=nd reads the teacher's embeddings of the training images: call bind before setup")
        self.register_buffer("means", self.read(teacher.logits.shape[-1]))  # in every checkpoint
        self.read = None
        inside, outside = student.embedding.shape[-1], teacher.embedding.shape[-1]
        self.widen = nn.Identity()
        if inside != outside:
            self.widen = nn.Sequential(nn.BatchNorm1d(inside), nn.Dropout(DROPOUT), nn.Linear(inside, outside))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        own = self.widen(student.embedding)
        return norm_direction(own, teacher.embedding, self.means.to(own.dtype)[batch.target])
