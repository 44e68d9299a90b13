"""What a trained network is worth: predictions, metrics, cost, latency, statistics."""
