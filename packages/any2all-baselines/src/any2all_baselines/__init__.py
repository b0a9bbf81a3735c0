"""Methods that are trained for one task, to compare a prior with."""

__version__ = "0.1.0"
