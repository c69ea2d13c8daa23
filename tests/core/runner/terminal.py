"""A terminal of a given size: a pseudo-terminal, and what would be seen on its screen."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

TOKEN = re.compile(r"\x1b\[(\?)?([\d;]*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n])", re.DOTALL)


class Screen:
    """Rows of text, written as a terminal of ``width`` columns would; the cursor's visibility."""

    def __init__(self, width: int) -> None:
        self.width, self.rows, self.at, self.cursor = width, [""], (0, 0), True

    def write(self, text: str) -> None:
        for private, number, command, back, down, character in TOKEN.findall(text):
            row, column = self.at
            if private:
                self.cursor = command == "h" if number == "25" else self.cursor
            elif command == "A":
                self.at = (max(row - int(number or 1), 0), column)
            elif command == "K":
                self.rows[row] = ""
            elif back:
                self.at = (row, 0)
            elif down:
                self._go(row + 1, column)
            elif character:
                if column == self.width:
                    self._go(row + 1, 0)
                    row, column = self.at
                line = self.rows[row].ljust(column)
                self.rows[row] = line[:column] + character + line[column + 1 :]
                self.at = (row, column + 1)

    def _go(self, row: int, column: int) -> None:
        self.rows += [""] * (row + 1 - len(self.rows))
        self.at = (row, column)

    @property
    def text(self) -> str:
        return "\n".join(row.rstrip() for row in self.rows).rstrip("\n")


class Terminal:
    """A pseudo-terminal whose output is collected.

    Attributes:
        output: All that was written, as it came.
        end: The file descriptor that programs write to.
    """

    def __init__(self, width: int, height: int = 24) -> None:
        self.width, self.output = width, ""
        self.master, self.end = pty.openpty()
        fcntl.ioctl(self.end, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        collected = b""
        while True:
            try:
                got = os.read(self.master, 4096)
            except OSError:  # Linux: the other end is closed
                return
            if not got:
                return
            collected += got
            self.output = collected.decode(errors="ignore")

    def close(self) -> Screen:
        """What is on the screen in the end."""
        os.close(self.end)
        self.reader.join(10)
        os.close(self.master)
        return self.screen()

    def screen(self) -> Screen:
        """What is on the screen now."""
        screen = Screen(self.width)
        screen.write(self.output)
        return screen


@contextmanager
def standard_output(terminal: Terminal, monkeypatch: Any, streams: tuple[str, ...] = ("stdout",)) -> Iterator[None]:
    """Standard streams of this process are the terminal."""
    with monkeypatch.context() as patch:
        patch.setenv("COLUMNS", str(terminal.width))  # rich asks the descriptors 0 to 2, which stay what they are
        patch.setenv("TERM", "xterm-256color")
        for name in streams:
            patch.setattr(sys, name, os.fdopen(os.dup(terminal.end), "w"))
        yield
        for name in streams:
            getattr(sys, name).close()


def start(terminal: Terminal, script: str, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A Python program that is alone on the terminal."""
    command = [sys.executable, "-c", script]
    own = {"TERM": "xterm-256color", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    environment = {**{k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}, **own}
    return subprocess.Popen(command, stdin=terminal.end, stdout=terminal.end, stderr=terminal.end, env=environment)
