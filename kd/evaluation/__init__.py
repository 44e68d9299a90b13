"""Evaluation of trained networks: predictions, metrics, cost, latency, statistics."""
