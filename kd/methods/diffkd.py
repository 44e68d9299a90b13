"""Knowledge Diffusion for Distillation (Huang et al., NeurIPS 2023), https://arxiv.org/abs/2305.15712, on logits.

The student's logits count as a noisy version of the teacher's. A small diffusion model learns to remove noise from the
teacher's logits. The same model, in a few steps of DDIM, cleans the student's logits; before, a linear layer maps them,
and a learned gate mixes in as much noise as it finds to be missing. Hinton's term compares the cleaned logits with the
teacher's. Model, gate and layers are trained with the student and are not deployed.

This is the branch of the authors' code for logits; its other branch, on feature maps behind an autoencoder, is left
out. Every batch norm uses the statistics of its own batch. What is drawn (noise, and the step at which noise is removed
from the teacher's logits) is a pure function of (seed, epoch, index), as views are.

Costs the model once for each of ``steps`` and once more for the teacher: some 16 K^2 multiplications an image and call
for K classes, next to nothing beside the networks up to a few hundred classes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from kd.interfaces import Batch, Outputs
from kd.methods._common import check_batch
from kd.methods.hinton import soft_label_kl
from kd.runtime.rng import counter_device, random_bits

TRAINED = 1000  # steps of the diffusion model
BETA = (1e-4, 0.02)  # share of noise that its first and its last step add to the variance


def kept_variance(dtype: torch.dtype = torch.float64) -> Tensor:
    """Return the share of the variance that is left of the logits after each step of the diffusion, [TRAINED]."""
    return (1 - torch.linspace(*BETA, TRAINED, dtype=torch.float64)).cumprod(0).to(dtype)


def denoise(x: Tensor, steps: int, kept: Tensor, noise_in: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return ``x`` after ``steps`` steps of DDIM (Song et al. 2021, https://arxiv.org/abs/2010.02502), [B, K].

    The steps start half way through the diffusion: of 1000, five go through 400, 300, 200, 100, 0.

    Args:
        x: [B, K]. kept: of ``kept_variance``.
        noise_in: returns the noise in x at a step, [B, K], [B] int64 -> [B, K].
    """
    stride = TRAINED // (2 * steps)
    for step in range((steps - 1) * stride, -1, -stride):
        noise = noise_in(x, torch.full((len(x),), step, device=x.device))
        clean = (x - (1 - kept[step]).sqrt() * noise) / kept[step].sqrt()
        if step < stride:
            return clean
        x = kept[step - stride].sqrt() * clean + (1 - kept[step - stride]).sqrt() * noise
    return x


def draw(seed: int | Tensor, epoch: int, index: Tensor, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Draw two normal numbers for each logit and a step for each image: [B, K], [B, K], [B] int64.

    A pure function of the seed, the epoch and the index, int64 [B], of each image.
    """
    classes = like.shape[-1]
    bits = random_bits(seed, epoch, index.to(counter_device(like.device)), 2 * classes + 1)
    bits = ((bits >> 40) & 0xFF_FFFF).to(like.device)  # as many as float32 holds: accelerators have no fast float64
    normal = torch.special.ndtri((bits[:, 1:].float() * 2.0**-24 + 2.0**-25).clamp(max=1 - 2.0**-24)).to(like.dtype)
    return normal[:, :classes], normal[:, classes:], (bits[:, 0] * TRAINED) >> 24


def norm(count: int) -> nn.BatchNorm1d:
    return nn.BatchNorm1d(count, track_running_stats=False)


class Denoiser(nn.Module):
    """Return the noise in logits at a step of the diffusion: [B, K], [B] int64 -> [B, K]."""

    def __init__(self, classes: int):
        super().__init__()
        wide = 4 * classes
        self.time = nn.Embedding(TRAINED, classes)
        self.first = nn.Sequential(
            nn.Linear(classes, wide, bias=False),
            norm(wide),
            nn.ReLU(),
            nn.Linear(wide, classes, bias=False),
            norm(classes),
        )
        self.second = nn.Sequential(
            nn.Linear(classes, wide, bias=False), norm(wide), nn.ReLU(), nn.Linear(wide, classes)
        )

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        return self.second(self.first(x + self.time(step)))


class Gate(nn.Module):
    """Return the share of logits that is kept where noise is mixed in: [B, K] -> [B, 1] in (0, 1)."""

    def __init__(self, classes: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(classes, 2 * classes, bias=False),
            norm(2 * classes),
            nn.ReLU(),
            nn.Linear(2 * classes, classes, bias=False),
            norm(classes),
        )
        self.choose = nn.Linear(classes, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.choose(self.layers(x)).softmax(-1)[:, :1]


class DiffKD(nn.Module):
    """Hinton's term with the student's logits cleaned, and the loss of the model that cleans them.

    Args:
        temperature: T of both softmaxes. steps: of the cleaning.
        denoising: weight of the mean squared error of the noise that the model finds in the teacher's logits.
    """

    needs = frozenset({"logits"})

    def __init__(self, temperature: float | Tensor = 1.0, steps: int = 5, denoising: float | Tensor = 1.0):
        super().__init__()
        if not isinstance(temperature, Tensor) and not temperature > 0:
            raise ValueError(f"kd.temperature must be above 0, got {temperature}")
        if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= TRAINED // 2:
            raise ValueError(f"kd.steps must be a whole number in [1, {TRAINED // 2}], got {steps}")
        if not isinstance(denoising, Tensor) and not 0 < denoising < float("inf"):
            raise ValueError(f"kd.denoising must be above 0, since it trains what cleans the logits, got {denoising}")
        self.temperature, self.steps, self.denoising = temperature, steps, denoising

    def setup(self, student: Outputs, teacher: Outputs | None) -> None:
        """Build the diffusion model, the gate and the linear layers."""
        classes = student.logits.shape[-1]
        self.register_buffer("seed", torch.randint(2**62, ()))
        self.register_buffer("kept", kept_variance(student.logits.dtype), persistent=False)
        self.enter, self.leave = nn.Linear(classes, classes), nn.Linear(classes, classes, bias=False)
        self.normalize = norm(classes)
        self.gate, self.denoiser = Gate(classes), Denoiser(classes)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        check_batch(len(student.logits), "kd=diffkd")
        drawn = draw(self.seed, batch.epoch, batch.index, student.logits)
        return self.loss(student.logits, teacher.logits, *drawn)

    def loss(self, student: Tensor, teacher: Tensor, noise: Tensor, removed: Tensor, step: Tensor) -> Tensor:
        """Return the loss for given random numbers, a scalar.

        Args:
            student, teacher: logits, [B, K]. noise: [B, K], mixed into the student's.
            removed: [B, K], the noise that the model is to find in the teacher's. step: [B], int64.
        """
        kept = self.kept.to(student.dtype)
        given = self.enter(student)
        share = self.gate(given)
        clean = denoise(share * given + (1 - share) * noise, self.steps, kept, self.denoiser)
        soft = soft_label_kl(self.normalize(self.leave(clean)), teacher, self.temperature)
        left = kept[step][:, None]
        noisy = left.sqrt() * teacher + (1 - left).sqrt() * removed
        return soft + self.denoising * (self.denoiser(noisy, step) - removed).square().mean()
