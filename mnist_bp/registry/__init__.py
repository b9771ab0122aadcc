"""Published runs, and the champion of each dataset."""
