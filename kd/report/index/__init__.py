"""``outputs/index.html``: the front page of an outputs folder, one file with all its runs and sweeps.

``scan`` reads the folder (``state``: what became of a run; ``facts``: its numbers and words; ``curves``: its epochs;
``ledgers``: the sweeps), ``page`` writes and reads the file, ``watch`` refreshes it. The scripts in ``assets/``
show it.
"""
