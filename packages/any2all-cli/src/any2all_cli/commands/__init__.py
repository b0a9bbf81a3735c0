"""The commands of ``any2all``, one per file. A command imports its work when it is run."""
