"""Engines: what computes the training steps, and the certificate that holds each to the equations."""
