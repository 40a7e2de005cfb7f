"""Upscale models."""
