"""From a command line to checked plain values. Knows Hydra, never torch; ``kd/build.py`` makes the objects.

``command_line`` reads the arguments, ``register`` and ``generated`` add to Hydra's configs, ``help`` fills ``--help``,
``composed`` checks what Hydra composed. ``rules`` defines what a value may be, ``settings`` lists the settings,
``signatures`` reads what a constructor takes, ``keys`` handles dotted names, ``checks`` refuses plain values.
``networks`` composes the networks that a list names, ``combine`` composes methods by name, ``errors`` explains a wrong
command line.
"""
