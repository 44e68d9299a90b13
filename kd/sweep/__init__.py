"""A sweep (Hydra multirun): its name, the callback that checks and follows it, and its jobs."""
