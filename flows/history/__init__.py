"""The history of pipeline runs, in git."""
