"""Stage ``collect``: what the sources hold, into data/raw."""
