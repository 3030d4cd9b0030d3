"""This checkout: its folders, its lock, its processes, what its stages say."""
