"""The benchmark: one distillation job trained by several programs, in turns, and where their time goes."""
