"""What the commands ``stillroom data ...`` do."""
