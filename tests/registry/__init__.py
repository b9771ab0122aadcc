"""Tests of `mnist_bp.registry`."""
