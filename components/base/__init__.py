"""What every room stands on: errors, events, parameters, files, processes. Nothing of images or of training."""
