"""The figures of all reports, one family per file. Only this package imports seaborn."""
