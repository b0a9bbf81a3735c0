"""Show a patient's images in the browser."""

__version__ = "0.1.0"
