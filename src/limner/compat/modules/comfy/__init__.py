"""ComfyUI's own package, as far as packs use it."""
