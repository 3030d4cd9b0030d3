"""Stage ``split``: train, validation and test by group."""
