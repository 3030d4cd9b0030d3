"""Keeping house: what would run, what is whole, what is left behind, and the ways back."""
