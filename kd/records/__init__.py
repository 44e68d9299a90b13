"""Files of finished and unfinished runs and sweeps, which the pipeline writes and the reports read."""
