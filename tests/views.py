"""The augmentation of tests that need some."""

from kd.augment.affine import Affine

AUGMENT = (Affine(flip=0.5, shift=0.1),)
