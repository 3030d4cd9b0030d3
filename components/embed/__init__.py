"""Features of pictures, and pictures as vectors."""
