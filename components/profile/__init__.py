"""Stage ``profile``: what the data set looks like as a whole."""
