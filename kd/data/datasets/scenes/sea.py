"""The class sea."""

from __future__ import annotations

from kd.data.datasets.scenes.landscape import rocks, sky, water
from kd.data.datasets.scenes.objects import boat, person
from kd.data.datasets.scenes.painter import (
    LEAVES,
    LEFT,
    RIGHT,
    ROCKS,
    SNOW,
    WATERS,
    Painter,
    mix,
)
from kd.data.datasets.scenes.surroundings import backdrop


def sea(p: Painter) -> None:
    horizon = p.between(0.25, 0.65)
    sky(p, horizon)
    if p.chance(0.35):
        backdrop(p, horizon, 0.8)
    colour = p.near(p.pick(WATERS))
    water(p, horizon, colour, p.count(12, 50), p.between(0.5, 2))
    if p.chance(0.3):  # the sun's path
        x = p.between(0.15, 0.85)
        for _ in range(26):
            t = p.random()
            y, w = horizon + (1 - horizon) * t, (0.02 + 0.09 * t) * p.random() + 0.005
            a = x + p.between(-1, 1) * (0.02 + 0.07 * t)
            p.glow(
                [(a - w, y), (a, y - 0.006 - 0.008 * t), (a + w, y), (a, y + 0.006)],
                mix(p.low, (255, 250, 230), p.random()),
            )
    if p.chance(0.35):
        _cliff(p, horizon)
    if p.chance(0.4):
        for _ in range(p.count(1, 4)):
            t = p.random() ** 2
            boat(p, p.between(0.05, 0.95), horizon + 0.015 + 0.3 * t, 0.04 + 0.16 * t, 0.5 * (1 - t))
    front = p.random()
    if front < 0.35:
        _beach(p, horizon)
    elif front < 0.55:
        for _ in range(p.count(1, 4)):  # breakers
            y = horizon + (1 - horizon) * p.between(0.25, 0.9)
            line = p.ridge(LEFT, y, RIGHT, y + p.between(-0.1, 0.1), 0.03, 4)
            thick = 0.01 + 0.05 * (y - horizon)
            p.fill([*line, *[(a, b + thick * p.random() * 2) for a, b in reversed(line)]], SNOW, 0.1)
            p.fill([*[(a, b - thick) for a, b in line], *reversed(line)], colour, 0.1, 0.82)
    elif front < 0.7:
        rocks(p, 0.85, 1.1, p.count(5, 14), 0.16)
    elif front < 0.8:  # a pier
        x0, x1, w = p.between(0, 1), p.between(0.3, 0.7), p.between(0.08, 0.25)
        far = horizon + p.between(0.08, 0.25)
        p.fill([(x1 - 0.02, far), (x1 + 0.02, far), (x0 + w, 1.3), (x0 - w, 1.3)], (120, 100, 84), 0.1)
        for k in range(5):
            t = (k / 5) ** 0.6
            for sign in (-1, 1):
                x, y = x1 + (x0 - x1) * t + sign * (0.02 + (w - 0.02) * t), far + (1.3 - far) * t
                p.stroke([(x, y), (x, y - 0.03 - 0.1 * t)], 0.008 + 0.012 * t, (80, 66, 56), 0.1)


def _cliff(p: Painter, horizon: float) -> None:
    rock, side = p.near(p.pick(ROCKS)), p.pick((-1, 1))
    edge, height = 0.5 + side * p.between(0.05, 0.45), p.between(0.06, 0.45)
    out = 0.5 + side * 0.8
    base = horizon + p.between(0.01, 0.25)
    line = p.ridge(edge, base - height * p.between(0.1, 0.8), out, base - height, height * 0.25, 3)
    p.fill([(edge - side * 0.03, base), *line, (out, base)], rock, 0.4)
    for x, y in line:
        p.fill(
            [(x, y), (x + p.between(-0.05, 0.05), base), (x + p.between(0, 0.08), base)],
            rock,
            0.4,
            p.between(0.6, 1.15),
        )
    if p.chance(0.5):
        top = SNOW if p.snowy else p.pick(LEAVES[p.season])
        p.fill([*line, *[(x, y + 0.03) for x, y in reversed(line)]], top, 0.4)
    p.stroke([(edge - side * 0.05, base), (out, base + 0.01)], 0.012, SNOW, 0.2)


def _beach(p: Painter, horizon: float) -> None:
    sand = p.near(p.pick(((206, 184, 144), (176, 156, 126), (224, 210, 184), (120, 112, 106))))
    y0, y1 = p.between(0.7, 1.0), p.between(0.7, 1.0)
    if p.chance(0.35):  # seen along the shore
        y0, y1 = horizon + 0.03, 1.3
    line = p.ridge(LEFT, y0, RIGHT, y1, 0.05, 4)
    p.fill([*[(x, y - 0.035) for x, y in line], (RIGHT, 2), (LEFT, 2)], SNOW, 0.1, 0.95)
    p.below(line, 2, sand, 0.1, 0.75)
    p.fill([*[(x, y + 0.05) for x, y in line], (RIGHT, 2), (LEFT, 2)], sand, 0.1)
    if p.chance(0.4):
        for _ in range(p.count(1, 5)):
            x = p.between(0, 1)
            person(p, x, y0 + (y1 - y0) * x + p.between(0.05, 0.12), p.between(0.06, 0.12))
