"""The group `augments`: the steps of an augmentation, and a figure of what they make of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd.zoo.options import Entry, entry, read_option, settings_of

if TYPE_CHECKING:
    import numpy as np

IMAGES, VIEWS = 4, 12  # of the figure of one option; in the figure of all, an image has VIEWS / IMAGES views
SIDE = 48  # of the images, in pixels: that of data=scenes


def augment(path: Path, *_: Any) -> Entry:
    """Return the entry of an augmentation, from its yaml in conf/augment."""
    option = read_option(path, "augment")
    steps = {name: str(step.get("_target_", "–")) for name, step in (option.node.get("steps") or {}).items()}
    return entry(
        path,
        option,
        settings=settings_of({name: value for name, value in option.node.items() if name != "steps"}),
        cells={"steps": ", ".join(steps) or "none"},
        facts={"steps": [f"augment.steps.{name}: {target}" for name, target in steps.items()] or ["none"]},
        data={"steps": steps},
    )


def draw_views(names: Sequence[str], path: Path) -> None:
    """Draw views of four images of ``data=scenes`` by these options and write the figure: of one option 12 views each.

    Raises:
        ValueError: an option cannot be composed or its steps cannot be made.
    """
    from kd.report.figures.augments import augment_views
    from kd.report.figures.style import save

    each = VIEWS if len(names) == 1 else VIEWS // IMAGES
    save(augment_views({name: views_of(name, each) for name in names}), path)


def views_of(name: str, count: int) -> np.ndarray:
    """Return ``count`` views of each of the four images, uint8 [IMAGES, count, SIDE, SIDE, 3], of epochs from 1."""
    import numpy as np
    import torch

    from kd.augment.chain import Chain
    from kd.build import build_augment
    from kd.config.composed import compose_checked
    from kd.data.datasets.scenes.dataset import draw

    cfg, _ = compose_checked([f"augment={name}"])
    chain = Chain(build_augment(cfg), SIDE, SIDE)
    pixels = np.stack([draw(0, 0, position, SIDE) for position in range(IMAGES)])
    image, index = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255, torch.arange(IMAGES)
    views = torch.stack([chain(image, 0, epoch, index) for epoch in range(1, count + 1)], 1)
    return (255 * views).round().byte().permute(0, 1, 3, 4, 2).numpy()
