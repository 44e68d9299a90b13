"""Dynamic Temperature Knowledge Distillation (Wei, Bai 2024), https://arxiv.org/abs/2404.12711.

Each image has a temperature for the student and one for the teacher, and the sharper of the two networks gets the
higher: with the largest logits m of both, T_student = 2 T m_student / (m_student + m_teacher), and likewise for the
teacher. Divided by them, both networks' logits have the same maximum, (m_student + m_teacher) / (2 T). The term is
T_student T_teacher KL; its gradient runs through the student's maximum. Hinton's term at T is added to it. Costs one
softmax more than Hinton's term: negligible beside the networks.

The paper derives the temperatures from log-sum-exp as a measure of sharpness. The authors' repository now says that the
derivation has an error, and that its results were obtained with these formulas all the same. The temperatures depend on
where the zero of the logits lies, and are below 0 where a network's largest logit is: there, with logits centred below
0 or in a student that is hardly trained, the published loss means nothing. Here a maximum below 0.001 counts as 0.001.
In the code the weight of both parts rises from 1/20 over 20 epochs; here a schedule raises it from 0.
"""

from __future__ import annotations

from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods.hinton import soft_label_kl, soft_label_kl_each

LEAST = 1e-3  # the largest logit of an image counts as at least this


def dynamic_temperatures(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Return the temperatures of student and teacher, [B, 1] each and above 0: their mean is ``temperature``."""
    student, teacher = (z.amax(-1, keepdim=True).clamp_min(LEAST) for z in (student_logits, teacher_logits))
    return 2 * temperature * student / (student + teacher), 2 * temperature * teacher / (student + teacher)


def dynamic_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float | Tensor) -> Tensor:
    """Return mean_b T_s T_t KL(softmax(teacher / T_t) || softmax(student / T_s)), a scalar: summed over K.

    Args:
        student_logits, teacher_logits: [B, K]. temperature: the mean of both temperatures, above 0.
    """
    own, given = dynamic_temperatures(student_logits, teacher_logits, temperature)
    each = soft_label_kl_each(student_logits / own, teacher_logits / given, 1.0)
    return ((own * given).squeeze(-1) * each).mean()


class DTKD(nn.Module):
    """``dynamic * dynamic_kl + fixed * Hinton's term``.

    Args:
        temperature: T of Hinton's term, and the mean of the dynamic temperatures.
        dynamic, fixed: the paper's alpha and beta, the weights of both parts.
    """

    needs = frozenset({"logits"})

    def __init__(self, temperature: float | Tensor = 4.0, dynamic: float | Tensor = 3.0, fixed: float | Tensor = 1.0):
        super().__init__()
        if not isinstance(temperature, Tensor) and not temperature > 0:
            raise ValueError(f"kd.temperature must be above 0, got {temperature}")
        for name, weight in {"dynamic": dynamic, "fixed": fixed}.items():
            if not isinstance(weight, Tensor) and not weight >= 0:
                raise ValueError(f"kd.{name} must not be negative, got {weight}")
        if not any(isinstance(weight, Tensor) or weight for weight in (dynamic, fixed)):
            raise ValueError("kd.dynamic and kd.fixed are both 0: there is nothing to learn from the teacher")
        self.temperature = temperature
        self.dynamic = dynamic
        self.fixed = fixed

    def setup(self, student: Outputs, teacher: Outputs) -> None:
        """Nothing to build."""

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        moved = dynamic_kl(student.logits, teacher.logits, self.temperature)
        still = soft_label_kl(student.logits, teacher.logits, self.temperature)
        return self.dynamic * moved + self.fixed * still
