"""Stage ``describe``: the data report."""
