"""``core-run check-data``: everything that is wrong with a config's data."""
