"""A fresh process that knows nothing but what it is sent, as a data loader's worker is where processes are spawned.

One is started when it is first needed and serves all checks of a session: to import torch takes seconds. Functions and
arguments go there and back as pickles; it works in the same folder. Modules that it cannot find by name (tests, local
plugins) are imported there from their files.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

SERVE = "import sys; sys.path[:0] = sys.argv[1:]; from detcore.testing.worker import serve; serve()"


class Missing(Exception):
    """The worker has no module of this name."""


def in_worker(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a public function of a module returns there; raises what it raises, as a text that names its kind.

    Raises:
        RuntimeError: It raised, or the process died.
    """
    content = pickle.dumps((function, arguments))
    files: dict[str, str] = {}
    while True:
        outcome, value = _ask((os.getcwd(), files, content))
        if outcome == "returned":
            return pickle.loads(value)
        if outcome == "missing" and value not in files and (file := _file(value)):
            files[value] = file
            continue
        raise RuntimeError(value if outcome == "raised" else f"no module named {value}")


def _file(module: str) -> str:
    """Where a module that is imported here comes from, or the empty string."""
    return str(getattr(sys.modules.get(module), "__file__", None) or "")


def _ask(request: Any) -> tuple[str, Any]:
    process = _process()
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        pickle.dump(request, process.stdin)
        process.stdin.flush()
        answer: tuple[str, Any] = pickle.load(process.stdout)
    except (EOFError, BrokenPipeError):
        _process.cache_clear()
        return "raised", f"the worker process died (exit code {process.wait()})"
    return answer


@functools.cache
def _process() -> subprocess.Popen[bytes]:
    folder = str(Path(__file__).parents[2])  # where detcore is, however this process found it
    command = [sys.executable, "-c", SERVE, folder, *filter(None, sys.path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    atexit.register(_end, process)
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


def serve() -> None:
    """Answers requests until the other end is closed; what is printed meanwhile goes to standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while True:
        try:
            folder, files, content = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        os.chdir(folder)
        pickle.dump(_answer(files, content), answers)
        answers.flush()


def _answer(files: dict[str, str], content: bytes) -> tuple[str, Any]:
    try:
        for name, file in files.items():
            _import(name, file)
        function, arguments = pickle.loads(content)
        return "returned", pickle.dumps(function(*arguments))
    except ModuleNotFoundError as error:
        return "missing", error.name
    except Exception as error:
        return "raised", f"{type(error).__name__}: {' '.join(str(error).split())}"


def _import(name: str, file: str) -> None:
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
