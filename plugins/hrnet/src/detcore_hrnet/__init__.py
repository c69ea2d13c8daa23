"""High-resolution networks."""
