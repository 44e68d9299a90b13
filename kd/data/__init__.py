"""Data sets: one file each, with a function ``load`` that returns an ``ImageDataset``."""
