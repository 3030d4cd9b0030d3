"""The command ``stillroom``."""
