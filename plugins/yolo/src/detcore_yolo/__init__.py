"""YOLO text: see ``detcore_yolo.dataset``."""
