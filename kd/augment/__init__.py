"""Augmentation steps, one a file, and the chain that composes them into views of images."""
