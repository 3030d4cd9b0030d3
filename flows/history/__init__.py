"""The memory of pipeline runs, in git."""
