"""A stage on another machine: what it is asked for, what it hands back, and how either end survives the other."""
