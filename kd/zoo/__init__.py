"""What there is to choose from, read from the configs themselves: ``python -m kd.zoo``.

``pages`` reads a yaml; ``methods``, ``networks`` and ``data`` make an entry of one, ``counting`` counts what is built;
``groups`` lists the groups; ``tables`` shows entries.
"""
