"""Runs of the command line in processes of their own, each a fork of one that has torch in memory.

``python -m core.runner.server CONFIG`` reads a JSON object per line: ``args`` of the command line, a file ``log`` for what it
prints, and ``kill``, the moment at which it gets a signal. Each gets a process, the leader of a group; the
answer is its exit code, or the negated number of the signal that ended it.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import attrs


@attrs.frozen
class Server:
    """The end of a test."""

    process: subprocess.Popen[str]

    def run(self, *args: str, log: Path, kill: Mapping[str, Any] | None = None) -> int:
        """Run the command line to its end; its exit code, or the negated signal that ended it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"args": args, "log": str(log), "kill": kill}) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@contextmanager
def server(config: str) -> Iterator[Server]:
    """One that ends with the test and has the components of a config in memory."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "core.runner.server", config]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        yield Server(process)
        assert process.stdin is not None
        process.stdin.close()


class Moments:
    """Signals this process, or its group, at a moment of training.

    Args:
        calls: After so many calls of functions since training began.
        save: When the checkpoint of this number is written: ``after`` seconds later, by another process.
        function: When a function of this name is called the ``number``-th time.
        file_size: Limit the size of files instead, to so many bytes.
        signals: One or several, one after the other by ``apart`` seconds.
        group: Signal the whole group.
        count: A file that gets the number of calls of the whole training.
    """

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.number = options.get("number", 1)
        self.calls = self.saves = 0
        self.home = os.getpid()

    def begin(self) -> None:
        import torch

        if "save" in self.options:
            write = torch.save

            def save(content: Any, file: Any) -> None:
                self.saves += 1
                if self.saves == self.options["save"]:
                    self._soon()
                write(content, file)

            torch.save = save
        else:
            sys.setprofile(self._profile)

    def end(self) -> None:
        sys.setprofile(None)
        if "count" in self.options:
            Path(self.options["count"]).write_text(str(self.calls))

    def _profile(self, frame: FrameType, event: str, _: Any) -> None:
        if os.getpid() != self.home:  # a worker
            sys.setprofile(None)
            return
        self.calls += 1
        if self.calls == self.options.get("calls"):
            self._signal()
        elif event == "call" and frame.f_code.co_name == self.options.get("function"):
            self.number -= 1
            if self.number == 0:
                self._signal()

    def _signal(self) -> None:
        sys.setprofile(None)
        if "file_size" in self.options:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.options["file_size"],) * 2)
            return
        for number in self.options.get("signals", [signal.SIGKILL]):
            sender = os.fork()  # as another process would: workers obey this one
            if sender == 0:
                signal.signal(number, signal.SIG_IGN)  # it is one of the group
                (os.killpg if self.options.get("group") else os.kill)(self.home, number)
                os._exit(0)
            os.waitpid(sender, 0)
            time.sleep(self.options.get("apart", 0.0))

    def _soon(self) -> None:
        if os.fork() == 0:
            end = time.perf_counter() + self.options["after"]
            while time.perf_counter() < end:
                pass
            os.kill(self.home, signal.SIGKILL)
            os._exit(0)


def _child(args: list[str], log: str, kill: Mapping[str, Any] | None) -> None:
    from detcore import run
    from detcore.cli import main

    os.setpgid(0, 0)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    sys.stdin.close()
    if kill is not None:
        moments, to_the_end = Moments(**kill), run.run_to_the_end

        def watched(it: Any) -> Any:
            moments.begin()
            try:
                return to_the_end(it)
            finally:
                moments.end()

        run.run_to_the_end = watched
    main(args)


def _serve(config: str) -> None:
    from detcore import run

    run.check(config)
    while line := sys.stdin.readline():
        child = os.fork()
        if child == 0:
            _child(**json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1])
