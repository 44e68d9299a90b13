"""From a command line to checked plain values; ``kd/build.py`` makes objects of them.

``rules`` what a value may be, ``settings`` which there are, ``signatures`` what a constructor takes, ``keys`` dotted
names, ``checks`` what is refused of plain values; ``options`` what the groups offer, ``combine`` methods by name,
``register`` what Hydra is told, ``composed`` what it returns, ``callback`` what it calls before a run, ``mistakes`` how
a wrong command line is told.
"""
