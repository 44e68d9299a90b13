"""Attention variants: one file each, a callable ``(stage, channels) -> stage``. See ``attach.py``."""
