"""Datasets: download, digests, and the Parquet cache."""
