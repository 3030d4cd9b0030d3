"""For those who use a model: files to copy, which need nothing but Python."""
