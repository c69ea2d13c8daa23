"""The composed heads: a detector head as its parts."""
