"""A procedural detection benchmark: see ``detcore_shapes.shapes``."""
