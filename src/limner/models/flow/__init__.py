"""Transformers that walk straight from noise to picture: how each is laid out in files, and how it runs."""
