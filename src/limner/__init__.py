"""Limner: a production server for ComfyUI workflows."""

__version__ = "0.1.0"
