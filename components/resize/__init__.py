"""Stage ``resize``: kept images to one size, packed."""
