"""Readers of file formats: images, IDX, CIFAR pickles."""
