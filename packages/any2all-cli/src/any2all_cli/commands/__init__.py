"""The commands of ``any2all``, one a file; what they do is imported when one is run."""
