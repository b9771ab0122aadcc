"""Engines compute the training steps; the certificate checks each against the equations."""
