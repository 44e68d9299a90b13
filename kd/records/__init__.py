"""Files of finished and unfinished runs: read and written here, for the pipeline and the reports alike."""
