"""Measurements: `mnist-bp bench` prints a table of each."""
