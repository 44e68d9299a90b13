"""Single objects: trees, houses, people, cars, lamp posts, icebergs, boats."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kd.data.datasets.scenes.painter import (
    CLOTHES,
    DEEP,
    ICE,
    LEAVES,
    SNOW,
    WALLS,
    Painter,
    mix,
)


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
    """Paint a facade between two upright edges (x, top, bottom), with windows spaced in perspective."""
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
