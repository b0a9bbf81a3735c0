"""Evidence: which inputs give which images how well, with references, statistics and a report."""

__version__ = "0.1.0"
