"""Feature pyramid networks."""
