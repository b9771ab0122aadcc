"""Images of the user's own: folders of pictures, IDX files and Parquet files, which become the same Parquet cache."""
