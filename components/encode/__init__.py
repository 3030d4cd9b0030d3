"""Stage ``encode``: what samples are told with, cleaned and encoded once."""
