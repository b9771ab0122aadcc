"""One step of the pipeline per file: retries, timeouts, logging, progress. What is done stands in `mnist_bp`."""
