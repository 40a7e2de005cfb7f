"""Custom nodes: packs found and loaded, and the module names that they import, thin over the rest of Limner."""
