"""``core-run browse``: what training really sees, drawn."""
