"""Evidence: which inputs give which images how well, with references, statistics and a report.

``any2all_eval.evaluation`` has ``evaluate``; nothing heavy is imported here, so that any2all --help
answers at once.
"""

__version__ = "0.1.0"
