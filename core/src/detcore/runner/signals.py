"""Ctrl-C and SIGTERM: a run ends after the step that it is at, and saves what it has done."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from detcore import distributed
from detcore.errors import DataError, Interrupted
from detcore.runner.state import Run

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ONCE = 1.0
"""Seconds in which signals are one: a scheduler tells every process, torchrun its own ones again."""


@contextmanager
def listening(run: Run, save: Callable[[Run], None]) -> Iterator[None]:
    """Within it a signal is noted in ``run.signal``; a second one ends at once.

    Raises:
        Interrupted: A signal ended the workers too, and this process waited for them: it has saved.
    """
    first = 0.0

    def note(number: int, frame: Any) -> None:
        nonlocal first
        now = time.monotonic()
        if run.signal is not None and now > first + ONCE:
            raise KeyboardInterrupt
        run.signal, first = run.signal or number, first or now

    if threading.current_thread() is not threading.main_thread():  # only there signals can be handled
        yield
        return
    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield
    except DataError:
        if not distributed.is_parallel():  # the others have not come to this point
            end_if_told(run, save)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_if_told(run: Run, save: Callable[[Run], None] = lambda run: None) -> None:
    """End, after ``save``, where a signal reached any rank.

    Raises:
        Interrupted: It did.
    """
    told = distributed.most(run.signal or 0)
    if told:
        save(run)
        found = f"ended by {signal.Signals(told).name} after step {run.step}, which is saved"
        raise Interrupted(str(run.folder), found, "Go on with --resume auto.", code=128 + told)
