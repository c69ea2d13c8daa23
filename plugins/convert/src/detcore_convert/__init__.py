"""``core-run convert``: annotations in another format."""
