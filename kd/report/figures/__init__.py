"""Every figure, one family a file. The only room that knows seaborn."""
