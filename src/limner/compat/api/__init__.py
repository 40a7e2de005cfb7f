"""What the schema style of nodes declares: inputs, outputs, schemas, node classes."""
