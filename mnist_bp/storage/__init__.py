"""Files in a directory or in a bucket of an S3-compatible store, behind one interface."""
