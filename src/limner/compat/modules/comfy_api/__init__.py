"""The interface for nodes in the schema style, by its versions."""
