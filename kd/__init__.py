"""Knowledge distillation, configured with Hydra: ``python -m kd.run --help``."""

__version__ = "0.1.0"
