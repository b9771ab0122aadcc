"""Tests of `mnist_bp.data`."""
