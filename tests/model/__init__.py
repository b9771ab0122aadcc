"""Tests of `mnist_bp.model`."""
