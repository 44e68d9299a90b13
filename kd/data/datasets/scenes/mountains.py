"""The classes mountain and glacier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from kd.data.datasets.scenes.landscape import ground, massif, rocks, sky, water
from kd.data.datasets.scenes.objects import berg, conifer, house, person, tree
from kd.data.datasets.scenes.painter import (
    DEEP,
    GROUND,
    ICE,
    LEAVES,
    LEFT,
    RIGHT,
    ROCKS,
    SNOW,
    WATERS,
    Painter,
    Point,
    mix,
)


def mountain(p: Painter) -> None:
    horizon = p.between(0.5, 0.85)
    sky(p, horizon - 0.25)
    rock, snow = p.near(p.pick(ROCKS)), p.pick((0.0, 0.0, p.between(0.1, 0.5), p.between(0.4, 0.9)))
    kind = p.random()
    if kind < 0.6:
        number = p.count(2, 6)
        for k in range(number):
            t = (k + 1) / number
            height = p.between(0.3, 0.85) * (1 - 0.35 * t)
            massif(
                p, p.between(-0.1, 1.1), horizon + 0.02, height, 0.75 * (1 - t) + 0.15, snow * p.between(0.7, 1.1), rock
            )
    else:  # one range behind another
        layers, steep = p.count(2, 4), p.between(0.15, 0.4)
        for k in range(layers):
            t = k / layers
            colour = p.near(rock if p.chance(0.7) else p.pick(LEAVES[p.season]))
            _range(p, horizon - 0.3 + 0.33 * t, steep * (1 - 0.4 * t), colour, 0.85 * (1 - t) + 0.05, snow * (1 - t))
    front = p.random()
    if front < 0.3:
        water(p, horizon, p.pick(WATERS), p.count(3, 14))
    elif front < 0.75:
        ground(p, horizon, p.pick(GROUND[p.season]))
    else:
        ground(p, horizon, rock)
        rocks(p, horizon + 0.05, 1.1, p.count(8, 16), 0.12, rock)
    if p.chance(0.5):
        for _ in range(p.count(4, 14)):
            y = horizon + p.between(0.0, 0.05)
            tree(p, p.between(LEFT, RIGHT), y + 0.05, p.between(0.08, 0.22), 0.35, conifer)
    if p.chance(0.25):
        for _ in range(p.count(1, 4)):
            house(p, p.between(0, 1), horizon + p.between(0.04, 0.12), p.between(0.06, 0.13), 0.4)


def _range(p: Painter, y: float, height: float, colour: Sequence[float], depth: float, snow: float) -> None:
    """Paint a chain of peaks and passes across the image."""
    number = 2 * p.count(3, 6)
    tops = []
    for k in range(number + 1):
        lift = p.between(0.5, 1) if k % 2 else p.between(0, 0.45)
        tops.append((LEFT + 1.6 * (k + p.between(-0.3, 0.3)) / number, y - height * lift))
    line = [q for a, b in pairwise(tops) for q in p.ridge(*a, *b, height * 0.08, 2)]
    p.below(line, 2, colour, depth)
    for k in range(1, number, 2):
        (px, py), (qx, qy) = tops[k], tops[k - p.sun]
        fall = height * p.between(0.5, 1.2)
        foot = (px + (px - qx) * p.between(-0.4, 0.4), py + fall)
        p.fill([(px, py), (qx, qy), ((px + qx) / 2, qy + fall * 0.5), foot], colour, depth, 0.68)
        if snow > 0.03:
            (ax, ay), (bx, by) = tops[k - 1], tops[k + 1]
            t = min(snow * p.between(0.6, 1.2), 0.9)
            cap = [(px + (ax - px) * t, py + (ay - py) * t), (px, py), (px + (bx - px) * t, py + (by - py) * t)]
            drip = (py + (max(ay, by) - py) * t * p.between(0.5, 0.9), py + fall * t)
            p.fill(
                [*cap, ((px + bx * t) / (1 + t), drip[0]), (px, drip[1]), ((px + ax * t) / (1 + t), drip[0])],
                SNOW,
                depth,
                0.95,
            )


def glacier(p: Painter) -> None:
    kind = p.random()
    if kind < 0.35:
        _tongue(p)
    elif kind < 0.6:
        _ice_front(p)
    elif kind < 0.85:
        _ice_field(p)
    else:
        _lagoon(p)


def _tongue(p: Painter) -> None:
    """Paint a river of ice between rock walls, with moraines along and crevasses across."""
    horizon = p.between(0.25, 0.5)
    sky(p, horizon)
    rock = p.near(p.pick(ROCKS))
    for x in (p.between(-0.1, 0.35), p.between(0.65, 1.1), p.between(0.2, 0.8)):
        massif(p, x, horizon + 0.1, p.between(0.25, 0.5), 0.75, p.between(0.2, 0.9), rock)
    p.fill([(LEFT, horizon + 0.06), (RIGHT, horizon + 0.06), (RIGHT, 2), (LEFT, 2)], rock, 0.35, 0.9)
    for x in (p.between(-0.3, 0.1), p.between(0.9, 1.3)):  # the valley's sides
        massif(p, x, p.between(0.9, 1.2), p.between(0.4, 0.8), 0.3, p.pick((0, p.between(0, 0.5))), rock)
    rocks(p, horizon + 0.15, 1.1, 12, 0.1, rock)
    start, end, bend = p.between(0.3, 0.7), p.between(0.15, 0.85), p.between(-0.25, 0.25)
    narrow, wide = p.between(0.14, 0.32), p.between(0.3, 0.7)
    last = p.pick((1.3, 1.3, p.between(0.75, 0.95)))

    def at(u: float, t: float) -> Point:
        x = start + (end - start) * t + bend * math.sin(math.pi * t * 1.3)
        half = narrow + (wide - narrow) * t**1.3
        return x + u * half, horizon + 0.04 + (last - horizon - 0.04) * t**1.2

    steps = [k / 9 for k in range(10)]
    left, right = ([at(sign * p.between(0.85, 1.1), t) for t in steps] for sign in (-1, 1))
    p.fill([*left, *right[::-1]], SNOW, 0.3)
    for _ in range(p.count(3, 7)):
        u, first = p.between(-0.85, 0.85), p.count(0, 5)
        band = [at(u + p.between(-0.06, 0.06), t) for t in steps[first:]]
        p.stroke(band, p.between(0.006, 0.03), p.pick((rock, ICE, ICE)), 0.3, 0.95)
    for _ in range(p.count(20, 45)):
        t, u, w = p.random() ** 0.7, p.between(-0.95, 0.6), p.between(0.1, 0.45)
        curve = [at(u + w * j / 3, t + 0.02 * (j % 3 > 0)) for j in range(4)]
        p.stroke(curve, 0.006 + 0.014 * t, p.pick((ICE, DEEP)), 0.3 * (1 - t))
    if last < 1:
        for k in range(8):
            (ax, ay), (bx, by) = at(-1 + k / 4, 1), at(-0.75 + k / 4, 1)
            h = p.between(0.02, 0.07)
            p.fill([(ax, ay), (bx, by), (bx, by + h), (ax, ay + h)], p.pick((ICE, DEEP)), 0.15)


def _ice_front(p: Painter) -> None:
    """Paint the cliff at the end of the ice, above water or gravel."""
    shore = p.between(0.6, 0.85)
    top = shore - p.between(0.18, 0.5)
    sky(p, top)
    for _ in range(p.count(1, 4)):
        massif(p, p.between(-0.1, 1.1), top + 0.08, p.between(0.2, 0.45), 0.75, p.between(0.1, 0.9))
    if p.chance(0.7):
        line = p.ridge(LEFT, top - p.between(0, 0.15), RIGHT, top - p.between(0, 0.15), 0.06, 3)
        p.below(line, shore, SNOW, 0.5, 0.9)
    line = p.ridge(LEFT, top, RIGHT, top + p.between(-0.1, 0.1), 0.05, 5)
    p.below(line, shore + 0.02, mix(SNOW, ICE, p.between(0.2, 0.8)), 0.25)
    for ax, ay in line:
        w, drop = p.between(0.01, 0.04), p.between(0.3, 1)
        y = ay + (shore - ay) * drop
        p.fill(
            [(ax, ay), (ax + w, ay + 0.03), (ax + w * p.between(-0.5, 1.2), y)],
            p.pick((ICE, DEEP, DEEP, SNOW)),
            0.25,
            p.between(0.75, 1.05),
        )
    for _ in range(p.count(0, 3)):
        y = top + (shore - top) * p.random()
        p.stroke(p.ridge(LEFT, y, RIGHT, y + p.between(-0.1, 0.1), 0.03, 3), 0.01, p.pick(ROCKS), 0.25)
    if p.chance(0.7):
        water(p, shore, p.pick(WATERS), p.count(4, 20))
        for _ in range(p.count(0, 8)):
            berg(p, p.between(0, 1), shore + p.between(0.03, 0.35), p.between(0.03, 0.1))
    else:
        ground(p, shore, p.pick(ROCKS))
        rocks(p, shore + 0.03, 1.1, 14, 0.1)


def _ice_field(p: Painter) -> None:
    """Paint the ice from close by: crevasses in perspective, blocks, perhaps a rope party."""
    horizon = p.between(0.25, 0.55)
    sky(p, horizon)
    for _ in range(p.count(1, 4)):
        massif(p, p.between(-0.1, 1.1), horizon + 0.03, p.between(0.12, 0.4), 0.7, p.between(0.1, 0.95))
    p.below(p.ridge(LEFT, horizon, RIGHT, horizon, 0.05, 4), 2, SNOW, 0.35)
    ground(p, horizon + 0.06, mix(SNOW, ICE, p.between(0, 0.5)), 16, 0.5)
    tilt = p.between(-0.5, 0.5)
    for _ in range(p.count(10, 22)):
        t = p.random()
        x, y, w, h = (
            p.between(LEFT, RIGHT),
            horizon + 0.08 + (1 - horizon) * t,
            0.1 + 0.4 * t * p.random(),
            0.012 + 0.035 * t,
        )
        dy = tilt * w * 0.4
        p.fill(
            [(x - w, y - dy), (x - w * 0.3, y - h), (x + w * 0.5, y - h * 0.6), (x + w, y + dy), (x + w * 0.2, y + h)],
            p.pick((DEEP, ICE, DEEP)),
            0.3 * (1 - t),
            0.9,
        )
        p.stroke([(x - w, y - dy), (x - w * 0.3, y - h), (x + w * 0.5, y - h * 0.6), (x + w, y + dy)], 0.008, SNOW, 0.2)
    if p.chance(0.5):  # seracs: blocks of ice that broke at a step
        step, number = p.between(0.08, 0.4), p.count(5, 14)
        for k in range(number):
            berg(p, p.between(LEFT, RIGHT), horizon + step + 0.2 * k / number, p.between(0.05, 0.13))
    if p.chance(0.3):
        x, y = p.between(0.2, 0.7), p.between(0.65, 0.9)
        for k in range(p.count(1, 4)):
            person(p, x + 0.07 * k, y + 0.01 * k, 0.1, 0.1)


def _lagoon(p: Painter) -> None:
    horizon = p.between(0.35, 0.6)
    sky(p, horizon)
    for _ in range(p.count(0, 3)):
        massif(p, p.between(-0.1, 1.1), horizon + 0.02, p.between(0.12, 0.4), 0.75, p.between(0.2, 0.95))
    line = p.ridge(LEFT, horizon - 0.05, RIGHT, horizon - 0.05, 0.05, 4)
    p.below(line, horizon + 0.02, SNOW, 0.5)
    water(p, horizon, p.pick(WATERS), p.count(4, 20))
    for _ in range(p.count(4, 12)):
        t = p.random()
        berg(p, p.between(0, 1), horizon + 0.05 + 0.5 * t, 0.05 + 0.15 * t * p.random())
