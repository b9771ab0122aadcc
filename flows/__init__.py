"""What happens, in order. One flow per file, each also a script."""
