"""The augmentation of tests that need some."""

from kd.augment.affine import Affine
from kd.augment.randaugment import RandAugment

AUGMENT = (Affine(flip=0.5, shift=0.1),)
SECOND = (*AUGMENT, RandAugment(2, 10))  # of a second view, of methods that have one
