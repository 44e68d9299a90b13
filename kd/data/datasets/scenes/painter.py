"""The painter of the scenes: palettes that all classes share, light, haze, rough outlines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

CANVAS = 144  # pixels a side of the drawing, before it is reduced to image_size
LEFT, RIGHT = -0.3, 1.3  # scenes are drawn wider than the frame [0, 1], which the camera tilts and zooms

Colour = tuple[float, float, float]
Point = tuple[float, float]

# Per light: sky above, sky at the horizon, factor on every colour, haze. All classes share them.
LIGHTS = (
    ((84, 140, 214), (190, 215, 236), (1.0, 0.98, 0.94), 0.35),  # day
    ((120, 165, 220), (225, 232, 238), (1.05, 1.03, 1.0), 0.25),  # bright
    ((150, 160, 172), (200, 205, 210), (0.82, 0.84, 0.87), 0.45),  # overcast
    ((186, 192, 198), (206, 209, 212), (0.8, 0.82, 0.85), 0.85),  # fog
    ((110, 130, 180), (250, 205, 140), (1.1, 0.9, 0.68), 0.4),  # golden hour
    ((90, 70, 120), (245, 140, 80), (0.9, 0.62, 0.5), 0.4),  # sunset
    ((40, 50, 95), (150, 110, 130), (0.5, 0.48, 0.6), 0.4),  # dusk
    ((10, 14, 32), (34, 40, 64), (0.3, 0.34, 0.46), 0.3),  # night
    ((120, 150, 190), (215, 205, 215), (0.8, 0.88, 1.02), 0.6),  # cold dawn
    ((70, 78, 88), (125, 130, 134), (0.6, 0.64, 0.66), 0.5),  # storm
    ((196, 178, 150), (226, 206, 172), (1.0, 0.9, 0.74), 0.7),  # dust
)
LEAVES = {
    "summer": ((50, 90, 40), (72, 112, 46), (40, 76, 50), (96, 122, 60), (60, 84, 30)),
    "autumn": ((190, 112, 40), (168, 70, 36), (204, 154, 60), (120, 92, 42), (90, 96, 44)),
    "winter": ((112, 106, 100), (206, 212, 220), (92, 86, 82), (60, 76, 66), (226, 230, 236)),
}
GROUND = {
    "summer": ((92, 116, 58), (122, 118, 72), (78, 98, 56), (140, 128, 96)),
    "autumn": ((140, 112, 62), (118, 92, 56), (150, 132, 80), (100, 98, 56)),
    "winter": ((222, 228, 236), (200, 206, 214), (150, 144, 136), (232, 234, 238)),
}
ROCKS = ((122, 112, 102), (96, 96, 102), (142, 116, 90), (112, 86, 74), (82, 80, 78), (130, 130, 134))
WALLS = ((200, 190, 170), (170, 92, 70), (150, 150, 155), (216, 206, 196), (190, 160, 110), (110, 120, 130))
WALLS += ((122, 82, 66), (226, 216, 180), (88, 100, 116), (134, 150, 140), (70, 66, 64), (235, 235, 232))
CLOTHES = ((40, 40, 48), (150, 40, 40), (40, 60, 120), (210, 200, 190), (190, 150, 40), (70, 90, 70))
SNOW, ICE, DEEP = (236, 240, 246), (168, 200, 220), (84, 132, 168)
WATERS = ((40, 84, 112), (52, 104, 112), (70, 96, 108), (28, 60, 92), (92, 112, 110), (60, 120, 140))
CIRCLE = tuple((math.cos(k * math.pi / 4), math.sin(k * math.pi / 4)) for k in range(8))


def mix(a: Sequence[float], b: Sequence[float], t: float) -> Colour:
    return (a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t)


class Painter:
    """Canvas, light, camera and random numbers of one image.

    Coordinates are fractions of the frame, y downwards. ``depth`` runs from 0 (at the lens) to 1 (lost in haze).
    """

    def __init__(self, generator: np.random.Generator):
        self.random = generator.random
        first, second = self.pick(LIGHTS), self.pick(LIGHTS)
        t = self.random() if self.chance(0.5) else 0.0
        self.top, self.low, self.tint = (mix(first[k], second[k], t) for k in range(3))
        self.haze = (first[3] + (second[3] - first[3]) * t) * self.between(0.5, 1.15)
        self.dark = sum(self.tint) < 1.7  # lamps and windows are lit
        self.season = self.pick(("summer", "summer", "autumn", "winter"))
        self.snowy = self.season == "winter" and self.chance(0.7)
        self.sun = self.pick((-1, 1))
        tilt = (self.random() + self.random() - 1) * 0.13
        scale = CANVAS * self.between(0.88, 1.25)
        cos, sin = math.cos(tilt) * scale, math.sin(tilt) * scale
        mirror = self.pick((-1, 1))
        cx, cy = 0.5 + self.between(-0.08, 0.08), 0.5 + self.between(-0.06, 0.06)
        half = CANVAS / 2
        self.camera = (cos * mirror, -sin, half - cos * mirror * cx + sin * cy)
        self.camera += (sin * mirror, cos, half - sin * mirror * cx - cos * cy)
        self.scale = scale
        self.image = Image.new("RGB", (CANVAS, CANVAS))
        self.pen = ImageDraw.Draw(self.image)

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.random()

    def chance(self, probability: float) -> bool:
        return self.random() < probability

    def count(self, low: int, high: int) -> int:
        return low + int(self.random() * (high + 1 - low))

    def pick(self, options: Sequence):
        return options[int(self.random() * len(options))]

    def near(self, colour: Sequence[float], amount: float = 0.12) -> Colour:
        """Return a colour near ``colour``, slightly lighter or darker and slightly shifted."""
        k = 1 + self.between(-amount, amount)
        wobble = 12 * amount * 2
        return tuple(c * k + wobble * (self.random() - 0.5) for c in colour)

    def lit(self, colour: Sequence[float], depth: float = 0.0, k: float = 1.0) -> tuple[int, int, int]:
        """Return the colour of a surface as the camera sees it: in this light, through this haze."""
        f = min(self.haze * depth, 0.94)
        g = k * (1 - f)
        return tuple(
            max(0, min(255, int(c * t * g + a * f))) for c, t, a in zip(colour, self.tint, self.low, strict=True)
        )

    def pixels(self, points: Sequence[Point]) -> list[Point]:
        a, b, c, d, e, f = self.camera
        return [(a * x + b * y + c, d * x + e * y + f) for x, y in points]

    def fill(self, points: Sequence[Point], colour: Sequence[float], depth: float = 0.0, k: float = 1.0) -> None:
        self.pen.polygon(self.pixels(points), self.lit(colour, depth, k))

    def slab(
        self,
        x: float,
        low: float,
        half_low: float,
        top: float,
        half_top: float,
        colour: Sequence[float],
        depth: float = 0.0,
        k: float = 1.0,
    ) -> None:
        """Fill an upright trapezoid centred on x."""
        self.fill(
            [(x - half_low, low), (x + half_low, low), (x + half_top, top), (x - half_top, top)], colour, depth, k
        )

    def below(
        self, line: Sequence[Point], bottom: float, colour: Sequence[float], depth: float = 0.0, k: float = 1.0
    ) -> None:
        """Fill everything from a line across the image down to ``bottom``."""
        self.fill([*line, (RIGHT, bottom), (LEFT, bottom)], colour, depth, k)

    def glow(self, points: Sequence[Point], colour: Sequence[float]) -> None:
        """Fill a surface that emits light: its colour ignores light and haze."""
        self.pen.polygon(self.pixels(points), tuple(max(0, min(255, int(c))) for c in colour))

    def stroke(
        self, points: Sequence[Point], width: float, colour: Sequence[float], depth: float = 0.0, k: float = 1.0
    ) -> None:
        self.pen.line(self.pixels(points), self.lit(colour, depth, k), max(1, round(width * self.scale)))

    def blob(
        self, x: float, y: float, rx: float, ry: float, colour: Sequence[float], depth: float = 0.0, k: float = 1.0
    ) -> None:
        self.fill(self.round(x, y, rx, ry), colour, depth, k)

    def round(self, x: float, y: float, rx: float, ry: float, rough: float = 0.35) -> list[Point]:
        points = []
        for cos, sin in CIRCLE:
            r = 1 - rough * self.random()
            points.append((x + rx * r * cos, y + ry * r * sin))
        return points

    def ridge(self, x0: float, y0: float, x1: float, y1: float, rough: float, levels: int) -> list[Point]:
        """Return a jagged line between two points, by midpoint displacement."""
        points = [(x0, y0), (x1, y1)]
        for _ in range(levels):
            finer = points[:1]
            for (ax, ay), (bx, by) in pairwise(points):
                t = self.between(0.35, 0.65)
                finer += [(ax + (bx - ax) * t, ay + (by - ay) * t + self.between(-rough, rough)), (bx, by)]
            points, rough = finer, rough * 0.55
        return points
