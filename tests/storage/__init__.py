"""Tests of `mnist_bp.storage`."""
