"""Images of the user's own become the same cache."""
