"""From a command line to checked plain values. Knows Hydra, never torch; ``kd/build.py`` makes objects of them.

``command_line`` reads what you type, ``register`` and ``generated`` add to Hydra's configs, ``help`` fills ``--help``,
``composed`` is what Hydra returns. ``rules`` says what a value may be, ``settings`` which settings there are,
``signatures`` what a constructor takes, ``keys`` handles dotted names, ``checks`` refuses plain values. ``networks``
names the networks of lists, ``combine`` composes methods by name, ``errors`` explains a wrong command line.
"""
