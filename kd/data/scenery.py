"""The six scenes, painted back to front: what makes a street a street. Clutter and backdrops know no class."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from kd.data.painter import (
    CANVAS,
    CLOTHES,
    DEEP,
    GROUND,
    ICE,
    LEAVES,
    LEFT,
    RIGHT,
    ROCKS,
    SNOW,
    WALLS,
    WATERS,
    Painter,
    Point,
    mix,
)


def sky(p: Painter, horizon: float) -> None:
    edges = [horizon - (horizon + 0.4) * (k / 11) ** 1.3 for k in range(12)]
    p.pen.rectangle((0, 0, CANVAS, CANVAS), tuple(int(c) for c in p.top))
    for k in range(11, 0, -1):
        y = edges[k - 1] + 0.02
        p.glow([(-1, edges[k]), (2, edges[k]), (2, y), (-1, y)], mix(p.low, p.top, (k - 1) / 10))
    if p.chance(0.25):
        x, y, r = p.between(0, 1), p.between(0.0, max(horizon - 0.03, 0.05)), p.between(0.02, 0.05)
        light = mix(p.low, (255, 250, 225), 0.8)
        for k in (4, 2.4, 1.5, 1):
            p.glow(p.round(x, y, r * k, r * k, 0), mix(p.low, light, 1 / k))
    white = mix(p.low, tuple(255 * t for t in p.tint), p.between(0.2, 0.8))
    kind = p.random()
    if kind < 0.35:  # heaps
        for _ in range(p.count(1, 5)):
            x, y, w = p.between(-0.1, 1.1), p.between(-0.1, horizon), p.between(0.06, 0.2)
            for part in range(5):
                shade = mix(white, p.top, 0.35 if part < 2 else 0.0)
                p.glow(p.round(x + p.between(-w, w), y - part * w * 0.08, w * 0.6, w * 0.28), shade)
    elif kind < 0.65:  # veils
        for _ in range(p.count(3, 9)):
            x, y, w = p.between(-0.1, 1.1), p.between(-0.1, horizon), p.between(0.1, 0.5)
            p.glow(p.round(x, y, w, w * p.between(0.04, 0.12)), mix(p.top, white, p.between(0.3, 0.9)))
    if p.chance(0.12):
        for _ in range(p.count(2, 6)):
            x, y, w = p.between(0, 1), p.between(0, horizon), p.between(0.01, 0.025)
            p.stroke([(x - w, y - w * 0.6), (x, y), (x + w, y - w * 0.6)], 0.007, (20, 20, 24))


def backdrop(p: Painter, horizon: float, chance: float = 0.5) -> None:
    """Hills, peaks, a wood or a town far behind: any class may have them."""
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


def ground(p: Painter, horizon: float, colour: Sequence[float], patches: int = 14, far: float = 0.8) -> None:
    for k in range(6):
        y = horizon + (1.4 - horizon) * (k / 6) ** 1.6
        p.fill([(-1, y), (2, y), (2, 2), (-1, 2)], colour, far * (1 - k / 6) ** 2, 0.9 + 0.03 * k)
    for _ in range(patches):
        t = p.random() ** 1.5
        y, w = horizon + 0.02 + (1.1 - horizon) * t, 0.05 + 0.25 * t
        p.blob(p.between(LEFT, RIGHT), y, w, w * 0.13, p.near(colour, 0.25), far * (1 - t) ** 2)


def massif(p: Painter, x: float, base: float, height: float, depth: float, snow: float, rock=None) -> None:
    """A peak with a lit and a shaded side, gullies and snow from the summit down (``snow`` of its height)."""
    rock = rock or p.near(p.pick(ROCKS))
    width = height * p.between(0.7, 1.5)
    top = (x, base - height)
    left = p.ridge(x - width * p.between(0.8, 1.3), base, *top, height * 0.13, 3)
    right = p.ridge(*top, x + width * p.between(0.8, 1.3), base, height * 0.13, 3)
    spine = p.ridge(*top, x + width * p.between(-0.35, 0.35), base, 0, 3)
    spine = [(a + p.between(-0.06, 0.06) * height * (i > 0), b) for i, (a, b) in enumerate(spine)]
    light, dark = (1.12, 0.62) if p.sun < 0 else (0.62, 1.12)
    contrast = p.between(0.4, 1)
    light, dark = 0.87 + (light - 0.87) * contrast, 0.87 + (dark - 0.87) * contrast
    p.fill(left + spine[1:], rock, depth, light)
    p.fill([*spine[::-1], *right[1:]], rock, depth, dark)
    faces = ((left[::-1], light), (right, dark))
    for face, k in faces:
        for px, py in face[1:]:
            if py < base - 0.15 * height:
                run = (px - x) * p.between(-0.1, 0.5)
                fall = (base - py) * p.between(0.4, 1.0)
                w = height * p.between(0.03, 0.09)
                p.fill(
                    [(px, py), (px + run - w, py + fall), (px + run + w, py + fall)],
                    rock,
                    depth,
                    k * p.between(0.7, 1.25),
                )
    if snow > 0.03:
        line = base - height * (1 - snow)
        for (face, k), sign in zip(faces, (-1, 1), strict=True):
            rim = [q for q in face if q[1] <= line + 0.02]
            if not rim:
                continue
            end = rim[-1][0]
            edge = []
            for j in range(7):
                t = j / 6
                jag = (0.28 if j % 2 else -0.28) * snow * height * p.random()
                edge.append((end + (x - end) * t, line + jag - (1 - t) * 0.02))
            p.fill([*rim, *edge], SNOW, depth, 0.55 + 0.45 * k)
            for _ in range(3):  # rock that shows through, snow that lies in gullies
                t, w = p.random(), height * 0.03
                a, b = x + (end - x) * t, line - snow * height * p.between(0, 0.6)
                p.fill([(a, b), (a + sign * w, b + 3 * w), (a - sign * w, b + 4 * w)], rock, depth, k)
                b = line + p.between(0, 0.2) * height
                p.fill([(a, b), (a + sign * w, b + 5 * w), (a, b + 4 * w)], SNOW, depth, 0.55 + 0.45 * k)


def conifer(p: Painter, x: float, base: float, height: float, colour: Sequence[float], depth: float) -> None:
    w = height * p.between(0.14, 0.26)
    p.fill([(x - w * 0.12, base), (x + w * 0.12, base), (x, base - height * 0.5)], (70, 52, 40), depth)
    for k in range(3):
        top, low, half = base - height * (1 - 0.22 * k), base - height * (0.58 - 0.24 * k), w * (0.5 + 0.25 * k)
        p.fill([(x, top), (x - half, low), (x + half, low)], colour, depth, 0.85 + 0.1 * k)
        side = x - half if p.sun < 0 else x + half
        p.fill([(x, top), (side, low), (x, low)], SNOW if p.snowy else colour, depth, 0.9 if p.snowy else 1.25)


def broadleaf(p: Painter, x: float, base: float, height: float, colour: Sequence[float], depth: float) -> None:
    w = height * 0.035
    p.slab(x, base, w, base - height * 0.6, w * 0.6, (78, 62, 50), depth)
    r = height * p.between(0.2, 0.28)
    for k in range(8):
        dx, dy = p.between(-1.1, 1.1) * r, p.between(-0.8, 1.0) * r
        bright = 0.8 + 0.25 * (dx * p.sun - dy) / r + 0.04 * k
        p.blob(x + dx, base - height * 0.68 + dy, r * 0.7, r * 0.55, colour, depth, bright)


def bare(p: Painter, x: float, base: float, height: float, colour: Sequence[float], depth: float) -> None:
    bark = (72, 62, 56)
    p.stroke([(x, base), (x + p.between(-0.05, 0.05) * height, base - height)], height * 0.045, bark, depth)
    for _ in range(7):
        y, run = base - height * p.between(0.3, 0.85), height * p.between(-0.35, 0.35)
        p.stroke([(x, y), (x + run, y - abs(run) * p.between(0.5, 1.1))], height * 0.018, bark, depth)


def tree(p: Painter, x: float, base: float, height: float, depth: float, kind: Callable | None = None) -> None:
    kind = kind or p.pick((conifer, broadleaf) if p.season != "winter" else (conifer, bare, bare))
    colour = p.near(p.pick(LEAVES[p.season]), 0.2)
    if kind is conifer:
        colour = mix(colour, (44, 70, 52), 0.6)
    kind(p, x, base, height, colour, depth)


def wall(
    p: Painter, left: tuple, right: tuple, colour: Sequence[float], depth: float, floors: int, bays: int, k: float = 1.0
) -> None:
    """A facade between two upright edges (x, top, bottom), its windows spaced in perspective."""
    (x0, t0, b0), (x1, t1, b1) = left, right
    p.fill([(x0, t0), (x1, t1), (x1, b1), (x0, b0)], colour, depth, k)
    z0, z1 = b1 - t1, b0 - t0  # the farther edge looks shorter: distance goes as 1 / height

    def edge(u: float) -> tuple[float, float, float]:
        a = (1 - u) * z0 / ((1 - u) * z0 + u * z1)
        top = a * t0 + (1 - a) * t1
        return a * x0 + (1 - a) * x1, top, a * b0 + (1 - a) * b1 - top

    wide, tall = p.between(0.4, 0.75), p.between(0.4, 0.7)
    if p.chance(0.2):
        wide = 0.94
    elif p.chance(0.15):
        tall = 0.94
    glass = mix((40, 46, 58), tuple(c / max(t, 0.2) for c, t in zip(p.low, p.tint, strict=True)), p.between(0, 0.6))
    shine = p.between(0.1, 0.7) if p.dark else 0.02
    middles = [(j + 0.65) / (floors + 0.4) for j in range(floors)]
    reach = tall / 2 / (floors + 0.4)
    for i in range(bays):
        xa, ta, ha = edge((i + (1 - wide) / 2) / bays)
        xb, tb, hb = edge((i + (1 + wide) / 2) / bays)
        for v in middles:
            va, vb = v - reach, v + reach
            corners = [(xa, ta + ha * va), (xb, tb + hb * va), (xb, tb + hb * vb), (xa, ta + ha * vb)]
            if p.random() < shine:
                p.glow(corners, (250, 205 + 30 * p.random(), 130))
            else:
                p.fill(corners, glass, depth, k * (0.8 + 0.4 * p.random()))
    if p.chance(0.5):  # cornice
        d = 0.03
        top = [(x0, t0), (x1, t1), (x1, t1 + d * z0), (x0, t0 + d * z1)]
        p.fill(top, SNOW if p.snowy else colour, depth, 0.95 if p.snowy else k * 0.7)
    if p.chance(0.4):  # shops
        v = 1 - p.between(0.1, 0.16)
        low = [(x0, t0 + z1 * v), (x1, t1 + z0 * v), (x1, b1), (x0, b0)]
        p.fill(low, p.pick(CLOTHES), depth, k * 0.8)


def house(p: Painter, x: float, base: float, size: float, depth: float) -> None:
    w, h = size * p.between(0.8, 1.4), size * p.between(0.6, 1)
    colour = p.near(p.pick(WALLS))
    wall(p, (x - w / 2, base - h, base), (x + w / 2, base - h, base), colour, depth, p.count(1, 2), p.count(2, 4))
    roof = SNOW if p.snowy else p.pick(((120, 60, 48), (80, 74, 72), (140, 84, 60), (96, 88, 92)))
    top, inset = base - h - size * p.between(0.25, 0.55), w * p.pick((0.0, 0.25, 0.5))
    p.slab(x, base - h, w * 0.56, top, w / 2 - inset, roof, depth)


def person(p: Painter, x: float, base: float, height: float, depth: float = 0.0) -> None:
    w = height * 0.13
    p.slab(x, base, w * 0.8, base - height * 0.5, w * 0.6, p.pick(CLOTHES), depth, 0.7)
    p.slab(x, base - height * 0.45, w, base - height * 0.84, w * 0.8, p.pick(CLOTHES), depth)
    p.fill(p.round(x, base - height * 0.92, w * 0.6, height * 0.09, 0), (196, 156, 130), depth)


def car(p: Painter, x: float, base: float, width: float, depth: float, side: bool = False) -> None:
    colour = p.near(p.pick((*CLOTHES, (230, 230, 230), (150, 154, 160))), 0.2)
    w, h = width / 2, width * (0.24 if side else 0.42)
    tyre = width * 0.1
    for dx in (-0.62, 0.62) if side else (-0.75, 0.75):
        p.fill(p.round(x + dx * w, base - tyre * 0.6, tyre if side else tyre * 0.8, tyre, 0), (24, 24, 26), depth)
    p.slab(x, base - tyre * 0.6, w, base - h, w, colour, depth)
    roof = base - h * (1.9 if side else 1.8)
    p.slab(x, base - h, w * 0.8, roof, w * 0.58, colour, depth, 0.9)
    p.slab(x, base - h, w * 0.66, roof + h * 0.15, w * 0.48, (50, 60, 74), depth)
    lamp = p.pick(((250, 60, 40), (255, 245, 210)))
    for dx in (-0.8, 0.8):
        a, b = x + dx * w - width * 0.06, x + dx * w + width * 0.06
        y = base - h * 0.8
        (p.glow if p.dark else p.fill)([(a, y), (b, y), (b, y + h * 0.25), (a, y + h * 0.25)], lamp)


def lamp_post(p: Painter, x: float, base: float, height: float, depth: float) -> None:
    p.stroke([(x, base), (x, base - height), (x + height * 0.15, base - height)], height * 0.02, (52, 52, 56), depth)
    if p.dark:
        p.glow(p.round(x + height * 0.15, base - height, height * 0.05, height * 0.04, 0), (255, 225, 150))


def rocks(p: Painter, y0: float, y1: float, number: int, size: float, colour=None) -> None:
    colour = colour or p.pick(ROCKS)
    for k in range(number):
        t = (k + p.random()) / number
        x, y, r = p.between(LEFT, RIGHT), y0 + (y1 - y0) * t, size * (0.35 + 0.65 * t) * p.between(0.5, 1.2)
        shape = p.round(x, y, r, r * 0.6, 0.5)
        p.fill(shape, colour, 0.1, 0.65)
        p.fill(
            [(a + p.sun * 0.15 * r, y + (b - y) * 0.7 - 0.15 * r) for a, b in shape],
            SNOW if p.snowy else colour,
            0.1,
            1.05,
        )


def clutter(p: Painter) -> None:
    """Something between the camera and the scene, whatever the scene."""
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


# The six classes. Each has a few ways of being seen.


def buildings(p: Painter) -> None:
    horizon = p.between(0.6, 1.0)
    sky(p, horizon)
    backdrop(p, horizon, 0.35)
    kind = p.random()
    if kind < 0.3:
        _corner(p, horizon)
    elif kind < 0.55:
        _front(p, horizon)
    elif kind < 0.8:
        _skyline(p, horizon)
    else:
        _houses(p, min(horizon, 0.8))
    if p.chance(0.4):
        for _ in range(p.count(1, 4)):
            tree(p, p.between(0, 1), p.between(0.88, 1.05), p.between(0.15, 0.5), 0.1)
    if p.chance(0.3):
        car(p, p.between(0, 1), p.between(0.9, 1.02), p.between(0.14, 0.3), 0.05, side=True)


def _corner(p: Painter, horizon: float) -> None:
    """One or two blocks seen at an angle: both sides run away from the corner."""
    eye = horizon - p.between(0.0, 0.12)
    ground(p, eye + 0.01, p.pick(((120, 118, 114), (98, 98, 100), *GROUND[p.season])))
    for number in range(p.count(1, 2)):
        x = p.between(0.2, 0.8) if not number else p.between(0, 1)
        tall = p.between(0.45, 1.15) * (1 if number else p.between(0.85, 1))
        low = p.between(0.08, 0.25)
        colour, floors, depth = p.near(p.pick(WALLS)), p.count(3, 8), 0.35 - 0.25 * number
        for sign, k in ((-1, 1.05), (1, 0.7)):
            length, shrink = p.between(0.3, 0.8), p.between(0.35, 0.75)
            near, far = (x, eye - tall, eye + low), (x + sign * length, eye - tall * shrink, eye + low * shrink)
            sides = (far, near) if sign < 0 else (near, far)
            wall(p, *sides, colour, depth, floors, p.count(3, 6), k if p.sun < 0 else 1.75 - k)


def _front(p: Painter, horizon: float) -> None:
    """A row of facades across the picture."""
    base = p.between(0.82, 1.15)
    ground(p, base - 0.03, p.pick(((120, 118, 114), (98, 98, 100), *GROUND[p.season])))
    x = p.between(-0.5, -0.25)
    same = p.between(0.3, 1.05)
    while x < 1.25:
        w = p.between(0.22, 0.75)
        top = base - max(same + p.between(-0.25, 0.25), 0.3)
        lean = p.between(-0.03, 0.03)
        wall(
            p,
            (x, top, base),
            (x + w, top + lean, base),
            p.near(p.pick(WALLS)),
            0.15,
            p.count(2, 6),
            p.count(2, 5),
            p.between(0.75, 1.1),
        )
        if p.chance(0.4):
            roof = SNOW if p.snowy else p.pick(((120, 60, 48), (80, 74, 72)))
            p.fill([(x, top), (x + w, top + lean), (x + w * 0.8, top - 0.1), (x + w * 0.2, top - 0.1)], roof, 0.15)
        x += w + (p.between(0.02, 0.2) if p.chance(0.2) else 0)


def _skyline(p: Painter, horizon: float) -> None:
    base = min(horizon, p.between(0.7, 1.0))
    number = p.count(5, 10)
    for k in range(number):
        x, w = p.between(-0.2, 1.1), p.between(0.1, 0.26)
        top = base - p.between(0.2, 0.75) * (1 - 0.4 * k / number)
        depth = 0.85 - 0.65 * k / number
        colour = p.near(p.pick(WALLS))
        wall(p, (x, top, base), (x + w, top, base), colour, depth, p.count(4, 8), p.count(2, 4), 1.0)
        p.fill([(x + w, top), (x + w * 1.25, top + 0.02), (x + w * 1.25, base), (x + w, base)], colour, depth, 0.6)
        if p.chance(0.2):
            p.stroke([(x + w / 2, top), (x + w / 2, top - 0.12)], 0.01, (80, 80, 84), depth)
    if p.chance(0.3):
        water(p, base, p.pick(WATERS), 12)
    else:
        ground(p, base, p.pick(((110, 108, 106), *GROUND[p.season])))


def _houses(p: Painter, horizon: float) -> None:
    ground(p, horizon, p.pick(GROUND[p.season]))
    for k in range(p.count(2, 5)):
        house(p, p.between(-0.05, 1.05), horizon + 0.06 + 0.05 * k, p.between(0.25, 0.5), 0.4 - 0.08 * k)


def street(p: Painter) -> None:
    """A road in one-point perspective: a point (X, Y, Z) lies at (vx + X / Z, vy + (eye - Y) / Z)."""
    vx, vy, eye = p.between(0.15, 0.85), p.between(0.3, 0.62), p.between(0.2, 0.55)
    sky(p, vy)
    backdrop(p, vy, 0.5)
    pavement = SNOW if p.snowy and p.chance(0.6) else p.pick(((128, 124, 118), (150, 140, 126), (104, 100, 98)))
    ground(p, vy, pavement, 6, 0.6)
    half = p.between(0.22, 0.7)  # of the road
    walk = half + p.between(0.08, 0.35)  # where the houses begin
    tarmac = p.near(p.pick(((74, 74, 78), (96, 94, 92), (60, 60, 66), (130, 120, 108))))
    if p.snowy and p.chance(0.4):
        tarmac = mix(tarmac, SNOW, 0.6)

    def at(x: float, y: float, z: float) -> Point:
        return vx + x / z, vy + (eye - y) / z

    p.fill([at(-half, 0, 9), at(half, 0, 9), at(half, 0, 0.3), at(-half, 0, 0.3)], tarmac, 0.1)
    if p.chance(0.65):
        line, dash = (225, 222, 210), p.chance(0.7)
        z = 0.4
        while z < 6:
            far = z * (1.35 if dash else 2)
            p.fill([at(-0.02, 0, z), at(0.02, 0, z), at(0.02, 0, far), at(-0.02, 0, far)], line, 0.1)
            z = far * (1.4 if dash else 1)
        if p.chance(0.4):
            for sign in (-0.9, 0.9):
                p.fill(
                    [at(sign * half - 0.015, 0, 0.3), at(sign * half + 0.015, 0, 0.3), at(sign * half, 0, 8)], line, 0.1
                )
    if p.chance(0.25):
        z = p.between(0.7, 1.3)
        for k in range(7):
            x = half * (-0.9 + 0.28 * k)
            p.fill(
                [at(x, 0, z), at(x + half * 0.14, 0, z), at(x + half * 0.14, 0, z * 1.25), at(x, 0, z * 1.25)],
                (228, 226, 220),
                0.1,
            )
    tall = p.between(0.5, 1.8)
    for sign in (-1, 1):
        kind = p.random()
        stops = [p.between(0.35, 0.6)]
        while stops[-1] < 4:
            stops.append(stops[-1] * p.between(1.25, 1.9))
        for near, far in reversed(list(pairwise(stops))):
            depth = min(0.9, 0.12 * far + 0.03)
            if kind < 0.7:
                y = tall * p.between(0.65, 1.3)
                (ax, ab), (bx, bb) = at(sign * walk, 0, near), at(sign * walk, 0, far)
                a, b = (ax, at(0, y, near)[1], ab), (bx, at(0, y, far)[1], bb)
                k = 1.05 if sign == p.sun else 0.65
                wall(
                    p, *((a, b) if sign < 0 else (b, a)), p.near(p.pick(WALLS)), depth, p.count(2, 4), p.count(1, 3), k
                )
                front = at(sign * (walk + 1), 0, far)[0]  # the end wall, seen where the next house is lower
                if p.chance(0.3):
                    p.fill([(bx, b[1]), (front, b[1]), (front, bb), (bx, bb)], (120, 112, 104), depth, 0.6)
            elif kind < 0.9:
                x, y = at(sign * (walk + 0.1), 0, near * 1.15)
                tree(p, x, y, p.between(0.6, 1.2) / near, depth)
            else:
                x, y = at(sign * (walk + 0.45), 0, far)
                house(p, x, y, p.between(0.4, 0.7) / far, depth)
        if p.chance(0.4):
            for z in (3, 1.9, 1.1):
                x, y = at(sign * (half + 0.05), 0, z * p.between(0.9, 1.1))
                lamp_post(p, x, y, 0.75 / z, 0.12 * z)
    for z in sorted((p.between(0.9, 4) for _ in range(p.count(0, 5))), reverse=True):
        x, y = at(p.pick((-0.8, -0.35, 0.4, 0.8)) * half, 0, z)
        car(p, x, y, 0.3 / z, 0.1 * z)
    for z in sorted((p.between(1, 3) for _ in range(p.count(0, 5))), reverse=True):
        x, y = at(p.between(-walk, walk), 0, z)
        person(p, x, y, 0.3 / z, 0.1 * z)


def forest(p: Painter) -> None:
    kind = p.random()
    if kind < 0.5:
        _inside(p)
    elif kind < 0.8:
        _edge(p)
    else:
        _canopy(p)


def _inside(p: Painter) -> None:
    """Among the trunks."""
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
    """A stand of trees from outside, row before row."""
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
    """A wooded slope or the crowns from above."""
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
    else:  # range behind range
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
    """A chain of peaks and passes across the picture."""
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
    """A river of ice between rock walls, striped by moraines and crossed by crevasses."""
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
    """The cliff where the ice ends, above water or gravel."""
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
    """On the ice: crevasses in perspective, blocks, perhaps a rope party."""
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
    if p.chance(0.5):  # seracs: blocks that broke over a step
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


def berg(p: Painter, x: float, y: float, size: float) -> None:
    left, right = x - size * p.between(0.8, 1.6), x + size * p.between(0.8, 1.6)
    line = p.ridge(left, y, x + size * p.between(-0.5, 0.5), y - size * p.between(0.6, 1.6), size * 0.3, 2)
    line += p.ridge(*line[-1], right, y, size * 0.3, 2)[1:]
    p.fill(line, SNOW, 0.15)
    p.fill([line[4], (right, y), (x + size * p.between(-0.5, 0.2), y)], p.pick((ICE, DEEP)), 0.15)
    p.fill(
        [(left, y), (right, y), (right - size * 0.2, y + size * 0.12), (left + size * 0.2, y + size * 0.12)],
        DEEP,
        0.15,
        0.8,
    )


def water(p: Painter, horizon: float, colour: Sequence[float], waves: int, swell: float = 1.0) -> None:
    """Water from the horizon down: the sky mirrored far away, its own colour near, wave strokes that grow."""
    sheen = tuple(c / max(t, 0.2) for c, t in zip(p.low, p.tint, strict=True))
    for k in range(7):
        y = horizon + (1.35 - horizon) * (k / 7) ** 1.6
        p.fill([(-1, y), (2, y), (2, 2), (-1, 2)], mix(sheen, colour, 0.35 + 0.6 * k / 7), 0.5 * (1 - k / 7))
    for _ in range(waves):
        t = p.random() ** 1.6
        x, y = p.between(LEFT, RIGHT), horizon + 0.01 + (1.15 - horizon) * t
        w, h = 0.03 + 0.2 * t * p.random(), (0.003 + 0.02 * t) * swell
        tone = mix(colour, sheen, p.pick((0.0, 0.5, 0.8))) if p.chance(0.85) else SNOW
        p.fill([(x - w, y), (x, y - h), (x + w, y), (x, y + h * 0.4)], tone, 0.4 * (1 - t), p.between(0.75, 1.15))


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


def boat(p: Painter, x: float, y: float, size: float, depth: float) -> None:
    hull = p.pick(CLOTHES)
    p.fill(
        [(x - size, y - size * 0.3), (x + size, y - size * 0.3), (x + size * 0.7, y), (x - size * 0.7, y)], hull, depth
    )
    if p.chance(0.6):
        sail = p.pick(((236, 232, 224), (220, 215, 200), (170, 60, 50)))
        p.fill([(x, y - size * 0.35), (x, y - size * 2.4), (x + size * 0.9, y - size * 0.4)], sail, depth)
        p.fill(
            [(x - 0.1 * size, y - size * 0.35), (x - 0.1 * size, y - size * 2), (x - size * 0.7, y - size * 0.4)],
            sail,
            depth,
            0.85,
        )
    else:
        p.fill(
            [
                (x - size * 0.4, y - size * 0.3),
                (x + size * 0.3, y - size * 0.3),
                (x + size * 0.3, y - size * 0.8),
                (x - size * 0.4, y - size * 0.8),
            ],
            (225, 222, 215),
            depth,
        )


SCENES = {
    "buildings": buildings,
    "forest": forest,
    "glacier": glacier,
    "mountain": mountain,
    "sea": sea,
    "street": street,
}
CLASSES = tuple(SCENES)
