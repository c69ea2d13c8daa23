"""COCO's dataset and evaluation: see ``detcore_coco.dataset`` and ``detcore_coco.evaluator``."""
