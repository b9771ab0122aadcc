"""Datasets: their digests, the download, and the Parquet cache."""
