"""One Prefect task per stage: retries, logs, progress. The work is done in `mnist_bp`."""
