"""Runs of the command line in processes of their own, each a fork of one that has torch in memory.

``python -m core.runner.server CONFIG`` reads a JSON object per line: ``args`` of the command line, a file ``log`` for
what it prints, ``kill``, the moment at which it gets a signal, and ``ranks``, how many processes do it together, as
torchrun would start them. Each is the leader of a group; the answer is a list of their exit codes, or the negated
numbers of the signals that ended them.
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
from contextlib import contextmanager, suppress
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
        (code,) = self.ranks(1, *args, log=log, kill=kill)
        return code

    def ranks(self, ranks: int, *args: str, log: Path, kill: Mapping[str, Any] | None = None) -> list[int]:
        """As :meth:`run`, of several processes."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        order = {"args": args, "log": str(log), "kill": kill, "ranks": ranks}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        codes: list[int] = json.loads(self.process.stdout.readline())
        return codes


@contextmanager
def server(config: str) -> Iterator[Server]:
    """One that ends with the test and has the components of a config in memory."""
    roots = map(str, Path(__file__).parents[1:3])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(roots)}
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
        function: When a ``module.function`` is called the ``number``-th time.
        file_size: Limit the size of files instead, to so many bytes.
        signals: One or several, one after the other by ``apart`` seconds.
        group: Signal the whole group.
        rank: Of the process that it is about; by default every one.
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
        elif event == "call" and self._name(frame) == self.options.get("function"):
            self.number -= 1
            if self.number == 0:
                self._signal()

    @staticmethod
    def _name(frame: FrameType) -> str:
        return f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_name}"

    def _signal(self) -> None:
        sys.setprofile(None)
        if "file_size" in self.options:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.options["file_size"],) * 2)
            return
        for number in self.options.get("signals", [signal.SIGKILL]):
            whom = -self.home if self.options.get("group") else self.home
            sender = ["kill", f"-{number}", "--", str(whom)]  # another process: workers obey this one
            os.waitpid(os.posix_spawnp("kill", sender, os.environ), 0)
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
    if kill is not None and kill.get("rank") in (None, int(os.environ.get("RANK", "0"))):
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
    from detcore.errors import UserError

    with suppress(UserError):  # a run will say the same
        run.check(config)
    while line := sys.stdin.readline():
        order = json.loads(line)
        ranks = order.pop("ranks")
        numbers = [_environment(rank, ranks) for rank in range(ranks)] if ranks > 1 else [{}]
        with _store(ranks) as port:
            children = [_fork(order, {**each, "MASTER_PORT": str(port)} if each else {}) for each in numbers]
            codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(codes), flush=True)


def _fork(order: Mapping[str, Any], environment: Mapping[str, str]) -> int:
    child = os.fork()
    if child == 0:
        os.environ.update(environment)
        _child(**order)
    return child


def _environment(rank: int, ranks: int) -> dict[str, str]:
    """What torchrun tells its processes, but for the port."""
    own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
    return {**own, "MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_USE_AGENT_STORE": "True"}


@contextmanager
def _store(ranks: int) -> Iterator[int]:
    """The port of a store in a process of its own, which ends last, as torchrun does."""
    if ranks == 1:
        yield 0
        return
    reader, writer = os.pipe()
    host = os.fork()
    if host == 0:
        from torch.distributed import TCPStore

        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        os.write(writer, str(store.port).encode())
        signal.pause()
    yield int(os.read(reader, 10))
    os.kill(host, signal.SIGKILL)
    os.waitpid(host, 0)


if __name__ == "__main__":
    _serve(sys.argv[1])
