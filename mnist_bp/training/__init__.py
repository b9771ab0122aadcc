"""A run in progress: training loop, checkpoints, journal, resumption, evaluation."""
