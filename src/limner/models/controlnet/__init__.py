"""Control networks: what a picture adds to a denoiser's own states, at every block."""
