"""See ``plugin.py`` for what this package adds to detcore."""
