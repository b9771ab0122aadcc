"""The report of a run: one HTML page that fetches nothing."""
