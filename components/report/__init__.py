"""Stage ``report``: the model report."""
