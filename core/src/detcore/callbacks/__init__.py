"""Callbacks that any detector can use: averaged weights, early stopping, a switch of the transforms."""
