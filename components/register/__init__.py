"""Whether a candidate takes the champion's place."""
