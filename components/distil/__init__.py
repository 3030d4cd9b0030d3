"""A student that draws in few steps, made of a denoiser."""
