"""Sounds, videos and moving pictures: nodes that read, change and write them."""
