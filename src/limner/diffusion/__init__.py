"""The mathematics of diffusion: torch, no files, no network."""
