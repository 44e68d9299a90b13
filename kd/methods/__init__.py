"""Distillation methods, one file each: a pure function and a thin module. See ``docs/add-a-method.md``."""
