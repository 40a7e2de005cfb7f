"""A file per model family; `limner.models.family.detect` asks each."""
