"""A run in progress: training loop, checkpoints, journal, resume, evaluation."""
