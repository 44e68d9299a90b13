"""One run, from its config to its report.

In the order in which a run uses them: ``preflight`` tries every object before anything is written, ``prepare`` makes a
``RunPlan`` (``plan``) with its content keys (``keys``), ``batch_size`` finds the micro-batches of
``train.batch_size=auto``, ``execute`` runs the plan: ``distill`` trains teacher, baseline and student, each a network
in the store (``stage``), and ``results`` writes the files of the run.
"""
