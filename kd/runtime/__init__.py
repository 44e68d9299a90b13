"""The process: device, distributed, random numbers, signals, console, errors, and helpers for text and values.

Every other package may import this one. ``text`` and ``values`` need the standard library alone.
"""
