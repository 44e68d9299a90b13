"""Data set of painted scenes: six classes, nothing to download, any size."""
