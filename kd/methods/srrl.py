"""Knowledge Distillation via Softmax Regression Representation Learning (Yang, Martinez, Bulat, Tzimiropoulos,
ICLR 2021), https://openreview.net/forum?id=ZzwDy_wiWv.

A 1x1 convolution, batch norm and ReLU map the student's last map to the teacher's channels; pooled over places it is
compared with the teacher's embedding, and once more after the teacher's frozen classifier has read both: what the
classifier does not look at need not agree. Both distances are the mean squared difference over all elements; the
classifier's biases cancel. Costs the convolution in training, C_student C_teacher weights; it is not deployed, and the
student keeps its own classifier.

The published code pools the teacher's last map. Here the input of its classifier is taken, which is the same where the
head is a global average pool and a linear layer, and otherwise what its classifier really reads. A teacher whose
classifier is not one linear layer of its embedding is refused.
"""

from __future__ import annotations

from torch import Tensor, nn

from kd.interfaces import Batch, Context, Outputs
from kd.methods._common import check_embedding, classifier_rows, conv_norm
from kd.runtime.user_warnings import warn_user


def regression_losses(student: Tensor, teacher: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean squared differences of embeddings and of what the classifier makes of them, two scalars.

    Args:
        student, teacher: [B, D]. rows: [K, D], the weights of the teacher's classifier.
    """
    apart = student - teacher
    return apart.square().mean(), (apart @ rows.T).square().mean()


class SRRL(nn.Module):
    """``feature * distance of embeddings + classifier * distance of the teacher's logits``.

    Args:
        feature: the paper's alpha. classifier: the paper's beta.
    """

    needs = frozenset({"features", "embedding"})

    def __init__(self, feature: float | Tensor = 1.0, classifier: float | Tensor = 1.0):
        super().__init__()
        for name, weight in (("feature", feature), ("classifier", classifier)):
            if not isinstance(weight, Tensor) and not weight >= 0:
                raise ValueError(f"kd.{name} is a weight and must not be below 0, got {weight}")
        if not isinstance(feature, Tensor) and not isinstance(classifier, Tensor) and feature == classifier == 0:
            raise ValueError("kd.feature and kd.classifier are both 0: there is nothing to learn from the teacher")
        self.feature, self.classifier = feature, classifier

    def bind(self, context: Context) -> None:
        """Read the weights of the teacher's classifier.

        Raises:
            ValueError: the teacher has no linear classifier.
        """
        rows = classifier_rows(context.teacher, context.image_size, "kd=srrl").float()
        self.register_buffer("rows", rows, persistent=False)

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Build the layers from the student's last map to the teacher's embedding.

        Raises:
            ValueError: a teacher without an embedding, or a student without maps.
        """
        check_embedding(teacher, "kd=srrl")
        if not student.features:
            raise ValueError("kd=srrl reads the student's last map, and this student shows none: choose another one")
        if not hasattr(self, "rows"):
            raise RuntimeError("kd=srrl reads the teacher's classifier: call bind before setup")
        if (teacher.embedding < 0).any():
            warn_user(
                "kd=srrl: the teacher's embedding has numbers below 0, which the ReLU after the student's layers "
                "cannot reach. A teacher that ends in a ReLU and a global average pool, such as a ResNet, works better"
            )
        self.connect = nn.Sequential(*conv_norm(student.features[-1].shape[1], teacher.embedding.shape[1]), nn.ReLU())

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        own = self.connect(student.features[-1]).mean((2, 3))
        feature, classifier = regression_losses(own, teacher.embedding, self.rows.to(own.dtype))
        return self.feature * feature + self.classifier * classifier
