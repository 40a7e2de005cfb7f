"""Samplers under the names of k-diffusion."""
