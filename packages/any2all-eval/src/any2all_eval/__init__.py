"""Evaluation of priors, samplers and methods, with references, statistics and a report.

``any2all_eval.evaluation`` has ``evaluate``. Nothing heavy is imported here, so that any2all --help
answers at once.
"""

__version__ = "0.1.0"
