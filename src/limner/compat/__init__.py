"""Custom nodes: packs written for ComfyUI, and the module names that they import, thin over Limner's own."""
