"""Pascal VOC's annotations and evaluation: see ``detcore_voc.dataset`` and ``detcore_voc.evaluator``."""
