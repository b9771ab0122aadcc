"""The flows, one per file: the stages in order."""
