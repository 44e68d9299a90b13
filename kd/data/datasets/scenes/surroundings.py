"""Background and foreground of a scene, for any class."""

from __future__ import annotations

from kd.data.datasets.scenes.landscape import massif, rocks
from kd.data.datasets.scenes.objects import house, person, tree
from kd.data.datasets.scenes.painter import (
    LEAVES,
    LEFT,
    RIGHT,
    ROCKS,
    WALLS,
    Painter,
)


def backdrop(p: Painter, horizon: float, chance: float = 0.5) -> None:
    """Paint hills, peaks, a wood or a town in the far background, with probability ``chance``."""
    if not p.chance(chance):
        return
    kind = p.random()
    if kind < 0.4:
        height = p.between(0.05, 0.25)
        colour = p.pick(ROCKS) if p.chance(0.5) else p.pick(LEAVES[p.season])
        line = p.ridge(LEFT, horizon - height * p.random(), RIGHT, horizon - height * p.random(), height * 0.5, 4)
        p.below(line, horizon + 0.02, colour, p.between(0.6, 1))
    elif kind < 0.65:
        for _ in range(p.count(1, 2)):
            massif(p, p.between(0, 1), horizon + 0.01, p.between(0.12, 0.35), p.between(0.7, 1), p.between(0, 0.7))
    elif kind < 0.85:
        colour = p.pick(LEAVES[p.season])
        for k in range(22):
            x = LEFT + 1.6 * k / 21
            p.blob(x, horizon, 0.06, p.between(0.03, 0.09), p.near(colour), 0.7)
    else:
        for _ in range(p.count(3, 7)):
            house(p, p.between(LEFT, RIGHT), horizon + 0.015, p.between(0.04, 0.1), p.between(0.6, 0.85))


def clutter(p: Painter) -> None:
    """Paint something between the camera and the scene, for any class."""
    kind = p.random()
    x = p.pick((p.between(-0.05, 0.2), p.between(0.8, 1.05)))
    if kind < 0.2:  # leaves hang in from a corner
        colour = p.pick(LEAVES[p.season])
        y = p.between(-0.05, 0.15)
        for _ in range(p.count(8, 18)):
            r = p.between(0.02, 0.06)
            p.blob(x + p.between(-0.22, 0.22), y + p.between(-0.12, 0.12), r, r, p.near(colour, 0.25), 0, 0.6)
    elif kind < 0.35:
        tree(p, x, p.between(0.9, 1.1), p.between(0.4, 0.9), 0.05)
    elif kind < 0.5:  # pole and wires
        y = p.between(0.05, 0.3)
        p.stroke([(x, 1.2), (x, y - 0.05)], p.between(0.012, 0.03), (60, 54, 50))
        for k in range(p.count(0, 3)):
            wire = [(LEFT, y + p.between(-0.1, 0.1)), (x, y), (RIGHT, y + p.between(-0.1, 0.1))]
            p.stroke([(a, b + 0.05 * k) for a, b in wire], 0.004, (40, 40, 44))
    elif kind < 0.65:  # fence
        y, step = p.between(0.8, 0.95), p.between(0.06, 0.2)
        colour = p.pick(WALLS)
        for k in range(2):
            p.stroke([(LEFT, y + 0.06 * k), (RIGHT, y + 0.06 * k + 0.02)], 0.015, colour, 0, 0.6)
        for k in range(int(1.6 / step)):
            p.stroke([(LEFT + step * k, 1.2), (LEFT + step * k, y - 0.03)], 0.02, colour, 0, 0.55)
    elif kind < 0.8:
        for _ in range(p.count(1, 3)):
            person(p, p.between(0, 1), p.between(0.92, 1.1), p.between(0.15, 0.4))
    elif kind < 0.9:
        rocks(p, 0.92, 1.1, p.count(4, 10), 0.15)
    else:  # grass and flowers
        colour = p.pick(LEAVES[p.season])
        for _ in range(30):
            a, h = p.between(LEFT, RIGHT), p.between(0.05, 0.2)
            p.stroke([(a, 1.15), (a + p.between(-0.06, 0.06), 1.02 - h)], 0.012, p.near(colour, 0.3))
