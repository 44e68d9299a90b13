"""The six classes and their painting functions."""

from __future__ import annotations

from kd.data.datasets.scenes.forest import forest
from kd.data.datasets.scenes.mountains import glacier, mountain
from kd.data.datasets.scenes.sea import sea
from kd.data.datasets.scenes.town import buildings, street

SCENES = {
    "buildings": buildings,
    "forest": forest,
    "glacier": glacier,
    "mountain": mountain,
    "sea": sea,
    "street": street,
}
CLASSES = tuple(SCENES)
