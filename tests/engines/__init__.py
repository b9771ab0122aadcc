"""Tests of `mnist_bp.engines`."""
