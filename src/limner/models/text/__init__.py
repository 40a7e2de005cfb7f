"""Text into what a network understands: tokens, weights, encodings."""
