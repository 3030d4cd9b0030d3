"""Stage ``clean``: one verdict for each image, and which images show the same picture."""
