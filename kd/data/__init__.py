"""Data sets: one file each, a function ``load`` that returns ``ImageDataset``."""
