"""What differs between two states of the data, and the page that shows it."""
