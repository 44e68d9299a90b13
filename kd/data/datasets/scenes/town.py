"""The classes buildings and street."""

from __future__ import annotations

from itertools import pairwise

from kd.data.datasets.scenes.landscape import ground, sky, water
from kd.data.datasets.scenes.objects import car, house, lamp_post, person, tree, wall
from kd.data.datasets.scenes.painter import (
    GROUND,
    SNOW,
    WALLS,
    WATERS,
    Painter,
    Point,
    mix,
)
from kd.data.datasets.scenes.surroundings import backdrop


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
    """Paint one or two blocks at an angle: both sides recede from the corner."""
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
    """Paint a row of facades across the image."""
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
    """Paint a road in one-point perspective: (X, Y, Z) appears at (vx + X / Z, vy + (eye - Y) / Z)."""
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
                front = at(sign * (walk + 1), 0, far)[0]  # the end wall, visible if the next house is lower
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
