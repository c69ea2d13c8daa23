"""The foot of a terminal: how far a run is, and its last numbers."""

from __future__ import annotations

import sys
import time
import weakref

from rich.console import Console, Group
from rich.file_proxy import FileProxy
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

SECONDS = 0.25
"""What is drawn stays at least so long."""
MARGIN = 3
"""Columns left free at the right: what the terminal echoes there (``^C``) must not begin another line."""


def fits_here() -> bool:
    """Standard output is a terminal that can go back, and nothing else draws at its foot."""
    return sys.stdout.isatty() and not isinstance(sys.stdout, FileProxy) and not Console().is_dumb_terminal


class Bar:
    """Two lines that all other output passes above.

    No thread draws them: :meth:`due` says when it is time again. The cursor stays visible, so that a process that is
    killed leaves a usable terminal; whatever else ends Python, or the owner, erases them.

    Args:
        owner: With it goes the bar.
    """

    def __init__(self, owner: object) -> None:
        console = Console()
        self.live = Live(
            console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self.drawn = -SECONDS
        self.streams = {name: getattr(sys, name) for name in ("stdout", "stderr") if getattr(sys, name).isatty()}
        for name, stream in self.streams.items():
            setattr(sys, name, _Above(console, stream))
        self.live.start()
        console.show_cursor(True)
        self.close = weakref.finalize(owner, _close, self)
        """Erase it; once is enough."""

    @property
    def width(self) -> int:
        """Columns of the terminal."""
        return self.live.console.width

    def due(self) -> bool:
        """What is drawn is old."""
        return time.perf_counter() - self.drawn >= SECONDS

    def draw(self, title: str, done: int, total: int, note: str, numbers: str) -> None:
        """``title ------- done/total  note`` and below it the numbers; what does not fit is cut.

        Args:
            title: What is going on.
            done: How much of it is done.
            total: How much there is.
            note: What stands behind.
            numbers: The second line.
        """
        width = max(self.width - MARGIN, 1)
        count = f"{done}/{total}  {note}"
        room = width - len(title) - len(count) - 4
        head = Table.grid(padding=(0, 2, 0, 0))
        head.add_row(Text(title, "bold"), ProgressBar(total, done, width=min(room, 40)), count)
        first = head if room >= 5 else _cut(f"{title}  {count}", width)
        self.live.update(Group(first, _cut(numbers, width)), refresh=True)
        self.drawn = time.perf_counter()


class _Above(FileProxy):
    """A stream whose lines come above the bar. It tells the encoding, else click would write around it."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        encoding: str = self.rich_proxied_file.encoding  # type: ignore[attr-defined]
        return encoding


def _cut(line: str, width: int) -> Text:
    text = Text(line, no_wrap=True)
    text.truncate(width, overflow="ellipsis")
    return text


def _close(bar: Bar) -> None:
    bar.live.stop()
    for name, stream in bar.streams.items():
        setattr(sys, name, stream)
