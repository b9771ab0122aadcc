"""Tests of `mnist_bp.training`."""
