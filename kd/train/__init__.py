"""Training: recipe, loop, objective, schedules, state, checkpoints."""
