"""LoRA files: small changes to the weights of a model and of its text encoders, in every style of names and sums."""
