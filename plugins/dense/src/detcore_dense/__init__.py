"""What many dense heads share."""
