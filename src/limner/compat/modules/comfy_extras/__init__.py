"""Further core nodes, by the files in which ComfyUI has them. Most are made of Limner's nodes when asked for."""
