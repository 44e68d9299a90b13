"""What every other room may use. Its modules ``text`` and ``values`` need the standard library alone."""
