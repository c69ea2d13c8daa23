"""Is made for another detcore: importing it would fail."""

from __future__ import annotations

from detcore import something_that_is_not_there  # type: ignore[attr-defined]  # noqa: F401
