"""Weights of Detectron2."""
