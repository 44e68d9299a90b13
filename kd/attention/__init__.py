"""Attention variants, callables ``(stage, channels) -> stage``: timm's in one file, the others in one each. See
``attach.py``."""
