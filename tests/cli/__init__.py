"""Tests of `mnist_bp.cli`."""
