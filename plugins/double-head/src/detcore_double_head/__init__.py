"""Double-Head R-CNN."""
