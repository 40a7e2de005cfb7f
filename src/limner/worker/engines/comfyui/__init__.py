"""A stock ComfyUI, driven through its own protocol: the second adapter of the `Engine` port."""
