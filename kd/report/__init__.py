"""Reports of runs and sweeps: tables, figures and pages, made from files alone."""
