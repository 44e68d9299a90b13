"""A data set of painted scenes: nothing to download, six classes, any size."""
