"""Reads configs of MMDetection without running them: :func:`read_config`."""

from __future__ import annotations

from detcore_mmdet.reading.configs import read_config

__all__ = ["read_config"]
