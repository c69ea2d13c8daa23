"""The train loop, evaluation, optimisation and checkpoints: plain functions over one record, ``Run``."""
