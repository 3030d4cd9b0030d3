"""Optimisers, and the weights as one vector."""
