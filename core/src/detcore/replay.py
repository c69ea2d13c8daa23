"""A step whose loss was not finite, computed again from its file."""

from __future__ import annotations

from pathlib import Path

from detcore.assemble import build, load
from detcore.loading import classes_in, read
from detcore.runner.nonfinite import check_saved
from detcore.runner.nonfinite import replay as compute
from detcore.trained import load_carried, take


def replay(file: str, source: str | None = None, *, device: str | None = None) -> str:
    """Where the first number of a saved step is that is not finite; empty if there is none this time.

    Args:
        file: What a run saved in its folder ``nonfinite/``.
        source: A config, instead of the one that the file carries; only such a one may name local modules.
        device: Instead of the config's.

    Raises:
        UserError: File, config and what is installed do not fit together.
    """
    content = read(Path(file))
    check_saved(content, Path(file))
    config, catalog = load(source) if source else load_carried(content, file)
    parts = build(config, catalog, device, known=classes_in(content), load_weights=False)
    take(parts, content, file)
    for callback in (parts.plan.build("callbacks") or {}).values() if "place" in content else ():
        callback.step_replayed(parts.model, *content["place"])
    return compute(parts.model.train(), parts.preprocess, content)
