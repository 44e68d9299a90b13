"""A camera for painted scenes: exposure, colour cast, blur, noise."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from kd.data.datasets.scenes.painter import Painter


def develop(p: Painter, generator: np.random.Generator, size: int) -> np.ndarray:
    """Return the photograph of a scene, uint8 [size, size, 3]; nothing here depends on the class.

    The steps are blur, reduction, automatic exposure and white balance, vignette, noise and grain.
    """
    image = p.image
    image = image.filter(ImageFilter.BoxBlur(p.between(0.2, 2.6)))
    x = np.asarray(image.resize((size, size), Image.Resampling.BOX), np.float32)
    mean, std = x.mean((0, 1)), x.std((0, 1))
    grey = p.between(70, 165)
    cast = np.array([p.between(-18, 18), p.between(-8, 8), p.between(-18, 18)], np.float32)
    spread = p.between(28, 62)
    trust = np.float32(p.between(0.1, 0.7))  # how far the camera follows its light meter
    new_mean = mean + trust * (grey + cast - mean)
    new_std = std + trust * (spread - std)
    x = (x - mean) * np.minimum(new_std / np.maximum(std, 4), 4) + new_mean
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    x *= 1 - np.float32(p.between(0, 0.25)) * (ramp[:, None] ** 2 + ramp[None, :] ** 2)[..., None] / 2
    x += generator.standard_normal(x.shape, np.float32) * np.float32(p.between(1, 8))
    x += grain(generator, size) * np.float32(p.between(3, 16))
    return np.clip(x + 0.5, 0, 255).astype(np.uint8)


def grain(generator: np.random.Generator, size: int) -> np.ndarray:
    """Return film grain three pixels wide, mostly grey, [size, size, 3] of about unit variance.

    It hides the textures that a few small filters recognise (bricks, leaves, waves) and keeps the shapes.
    """
    coarse = generator.standard_normal((2 + size // 3, 2 + size // 3, 3), np.float32)
    coarse = 0.3 * coarse + 0.7 * coarse.mean(-1, keepdims=True)
    enlarged = [Image.fromarray(coarse[..., c]).resize((size, size), Image.Resampling.BICUBIC) for c in range(3)]
    return np.stack([np.asarray(channel) for channel in enlarged], -1)
