"""From a command line to plain values and the objects that they describe; and what is refused before anything is made.

``rules`` what a value may be, ``settings`` which there are, ``signatures`` what a constructor takes, ``keys`` dotted
names, ``checks`` what is refused of plain values; ``options`` what the groups offer, ``combine`` methods by name,
``generated`` options made from others, ``register`` what Hydra is told, ``help`` what ``--help`` shows of it,
``composed`` what Hydra returns, ``build`` objects of pages, ``examine`` all of it before a run, ``mistakes`` how a
wrong command line is told.
"""
