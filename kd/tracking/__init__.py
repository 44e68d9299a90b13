"""Tracking: a run's rows in ``metrics.jsonl`` always, and in Weights & Biases on request.

W&B is a copy to look at, never the record. Whatever fails inside it (no server, no key, a full disk, a killed service
process) costs one warning line, and the run continues with a complete ``metrics.jsonl``.

No other package of kd imports wandb. ``tracker`` is what a run uses; it holds one ``wandb_run`` for itself and one for
each network that several runs share. ``names`` defines what W&B shows, ``redact`` what it never receives, and ``claim``
which job logs a shared run. ``guard`` turns failures into warnings. ``wandb_files`` and ``wandb_environment`` handle
what wandb leaves on disk and reads from the environment. ``sweep_report`` logs the report of a sweep, and ``workspace``
builds a project's page of panels.
"""
