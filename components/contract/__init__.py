"""What a data set must look like before anything is trained on it."""
