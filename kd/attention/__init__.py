"""Attention variants: callables ``(stage, channels) -> stage``, attached to a network by ``attach``."""
