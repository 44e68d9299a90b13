"""Sky, ground, mountain masses, rocks and water."""

from __future__ import annotations

from collections.abc import Sequence

from kd.data.datasets.scenes.painter import (
    CANVAS,
    LEFT,
    RIGHT,
    ROCKS,
    SNOW,
    Painter,
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


def ground(p: Painter, horizon: float, colour: Sequence[float], patches: int = 14, far: float = 0.8) -> None:
    for k in range(6):
        y = horizon + (1.4 - horizon) * (k / 6) ** 1.6
        p.fill([(-1, y), (2, y), (2, 2), (-1, 2)], colour, far * (1 - k / 6) ** 2, 0.9 + 0.03 * k)
    for _ in range(patches):
        t = p.random() ** 1.5
        y, w = horizon + 0.02 + (1.1 - horizon) * t, 0.05 + 0.25 * t
        p.blob(p.between(LEFT, RIGHT), y, w, w * 0.13, p.near(colour, 0.25), far * (1 - t) ** 2)


def massif(p: Painter, x: float, base: float, height: float, depth: float, snow: float, rock=None) -> None:
    """Paint a peak with a lit and a shaded side, gullies, and snow from the summit down (``snow`` of its height)."""
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
            for _ in range(3):  # rock through the snow, snow in gullies
                t, w = p.random(), height * 0.03
                a, b = x + (end - x) * t, line - snow * height * p.between(0, 0.6)
                p.fill([(a, b), (a + sign * w, b + 3 * w), (a - sign * w, b + 4 * w)], rock, depth, k)
                b = line + p.between(0, 0.2) * height
                p.fill([(a, b), (a + sign * w, b + 5 * w), (a, b + 4 * w)], SNOW, depth, 0.55 + 0.45 * k)


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


def water(p: Painter, horizon: float, colour: Sequence[float], waves: int, swell: float = 1.0) -> None:
    """Paint water from the horizon down: the sky mirrored far away, its own colour near, growing wave strokes."""
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
