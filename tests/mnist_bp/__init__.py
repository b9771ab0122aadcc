"""Tests of `mnist_bp`."""
