"""The any2all command."""

__version__ = "0.1.0"
