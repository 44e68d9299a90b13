"""Reports of runs and sweeps: tables, figures, pages. They read files only."""
