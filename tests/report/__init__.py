"""Tests of `mnist_bp.report`."""
