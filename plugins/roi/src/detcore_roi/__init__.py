"""Parts of a second stage."""
