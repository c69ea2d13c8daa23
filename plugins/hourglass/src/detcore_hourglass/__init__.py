"""The stacked hourglass backbone as a plugin of detcore."""
