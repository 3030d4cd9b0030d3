"""What the commands that take a model do."""
