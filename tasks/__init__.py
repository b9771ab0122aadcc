"""One step of the pipeline per file: retries, logging, progress. What is done stands in `mnist_bp`."""
