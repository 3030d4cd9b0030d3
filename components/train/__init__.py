"""Stage ``train``: fit the denoiser."""
