"""For those who use a model: one file to copy, which needs nothing but Python."""
