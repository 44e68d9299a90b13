"""List the options of the config groups, read from the configs: ``python -m kd.zoo``.

``options`` reads a yaml; ``methods``, ``networks`` and ``data`` make an entry of it, ``counting`` counts a network;
``groups`` lists the groups; ``tables`` formats entries.
"""
