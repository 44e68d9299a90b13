"""One job of a multirun."""
