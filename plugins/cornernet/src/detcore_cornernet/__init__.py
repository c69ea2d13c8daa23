"""CornerNet as a plugin of detcore."""
