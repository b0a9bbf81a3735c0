"""Methods trained for one task, as baselines for a prior."""

__version__ = "0.1.0"
