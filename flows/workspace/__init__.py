"""This checkout: its folders, its lock, its processes, the events of its stages, how a command ends."""
