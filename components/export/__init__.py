"""The kept images for other tools."""
