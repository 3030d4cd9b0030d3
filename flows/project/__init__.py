"""A project of one's own beside the installed package: its presets, its files, how it is made."""
