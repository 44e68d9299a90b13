"""The class forest."""

from __future__ import annotations

from kd.data.datasets.scenes.landscape import ground, sky, water
from kd.data.datasets.scenes.objects import bare, broadleaf, conifer, tree
from kd.data.datasets.scenes.painter import (
    GROUND,
    LEAVES,
    LEFT,
    RIGHT,
    ROCKS,
    SNOW,
    WATERS,
    Painter,
)
from kd.data.datasets.scenes.surroundings import backdrop


def forest(p: Painter) -> None:
    kind = p.random()
    if kind < 0.5:
        _inside(p)
    elif kind < 0.8:
        _edge(p)
    else:
        _canopy(p)


def _inside(p: Painter) -> None:
    """Paint the forest from among the trunks."""
    horizon = p.between(0.45, 0.75)
    sky(p, horizon)
    leaf = p.pick(LEAVES[p.season])
    dense = p.between(0.2, 1)
    for _ in range(int(10 + 30 * dense)):
        r = p.between(0.06, 0.16)
        p.blob(p.between(LEFT, RIGHT), p.between(-0.2, horizon), r, r, p.near(leaf, 0.2), 0.8, 0.6)
    ground(p, horizon, p.pick((*GROUND[p.season], *ROCKS[2:4])))
    if p.chance(0.4):
        x, w, far = p.between(0.2, 0.8), p.between(0.1, 0.4), p.between(0.3, 0.7)
        colour = p.pick(((150, 130, 104), (120, 108, 96), (176, 164, 146), (130, 124, 118)))
        p.fill([(far - 0.02, horizon), (far + 0.02, horizon), (x + w, 1.3), (x - w, 1.3)], colour, 0.15)
    bark = p.pick(((72, 58, 46), (96, 80, 66), (56, 52, 50), (206, 202, 194), (120, 92, 70)))
    number = p.count(12, 26)
    lean = p.between(0, 0.12)
    for k in range(number):
        t = (k / number) ** 1.5
        x, y = p.between(-0.15, 1.15), horizon + (1.05 - horizon) * t * 0.8
        w, depth = 0.008 + 0.045 * t * p.between(0.6, 1.4), 0.85 * (1 - t) ** 1.5
        top = x + p.between(-lean, lean)
        colour = p.near(bark, 0.15)
        p.fill([(x - w * 1.2, y), (x + w * 1.2, y), (top + w * 0.7, -0.3), (top - w * 0.7, -0.3)], colour, depth, 0.85)
        p.fill([(x, y), (x + p.sun * w * 1.2, y), (top + p.sun * w * 0.7, -0.3), (top, -0.3)], colour, depth, 1.2)
        if p.chance(0.5):
            for _ in range(2):
                r, b = p.between(0.05, 0.14), p.between(-0.15, 0.8) * (horizon - 0.1)
                p.blob(x + p.between(-0.12, 0.12), b, r * 1.5, r * 0.8, p.near(p.pick(LEAVES[p.season]), 0.2), depth)
        if p.chance(0.3):
            p.blob(p.between(LEFT, RIGHT), y + 0.02, 0.04 + 0.1 * t, 0.02 + 0.05 * t, p.near(leaf, 0.25), depth)


def _edge(p: Painter) -> None:
    """Paint trees from outside, row before row."""
    horizon = p.between(0.4, 0.8)
    sky(p, horizon)
    backdrop(p, horizon, 0.3)
    ground(p, horizon, p.pick(GROUND[p.season]))
    kinds = ((conifer,), (broadleaf,), (conifer, broadleaf), (bare, conifer), (bare,))
    kind = p.pick(kinds if p.season == "winter" else kinds[:3])
    rows, tall = p.count(3, 4), p.between(0.3, 0.7)
    for row in range(rows):
        t = row / (rows - 1)
        y, depth, number = horizon + (0.95 - horizon) * t * p.between(0.5, 1), 0.7 * (1 - t), int(11 - 5 * t)
        for k in range(number):
            x = LEFT + 1.6 * (k + p.random()) / number
            tree(p, x, y + p.between(-0.02, 0.03), tall * (0.5 + 0.6 * t) * p.between(0.7, 1.2), depth, p.pick(kind))
    if p.chance(0.2):
        water(p, 0.85, p.pick(WATERS), 10)


def _canopy(p: Painter) -> None:
    """Paint a wooded slope, or the crowns from above."""
    horizon = p.between(-0.1, 0.4)
    sky(p, horizon)
    backdrop(p, horizon, 0.6)
    slope = p.between(-0.25, 0.25)
    colour = p.pick(LEAVES[p.season])
    p.fill([(LEFT, horizon - slope), (RIGHT, horizon + slope), (RIGHT, 2), (LEFT, 2)], colour, 0.6, 0.6)
    spiky = p.chance(0.4)
    for k in range(110):
        t = k / 109
        x = p.between(LEFT, RIGHT)
        y = horizon + (x - 0.5) * 2 * slope + (1.15 - horizon) * t
        r, depth = (0.05 + 0.1 * t) * p.between(0.7, 1.3), 0.75 * (1 - t)
        tone = p.near(p.pick(LEAVES[p.season]) if p.chance(0.25) else colour, 0.2)
        if spiky:
            p.fill([(x, y - r * 2.5), (x - r * 0.8, y + r), (x + r * 0.8, y + r)], tone, depth, 0.75)
            p.fill([(x, y - r * 2.5), (x + p.sun * r * 0.8, y + r), (x, y + r)], SNOW if p.snowy else tone, depth, 1.1)
        else:
            p.blob(x, y, r, r * 0.85, tone, depth, 0.7)
            p.blob(x + p.sun * r * 0.25, y - r * 0.25, r * 0.65, r * 0.5, SNOW if p.snowy else tone, depth, 1.1)
