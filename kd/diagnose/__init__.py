"""Why distillation helps or does not: figures, findings and advice from the files of a run."""
