"""``python -m kd.predict``: the classes of image files, by a network of a run or by an exported file."""
