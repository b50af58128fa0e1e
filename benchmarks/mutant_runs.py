"""Runs tests on changed copies of the source tree, several at a time; each run is a fork of this process, which has
imported what the tests need from others, so that a run begins within half a second."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, TypeVar

import pytest

T = TypeVar("T")

SLOW = 0.5
"""Seconds. A test that takes longer runs for every mutant: it may reach lines in another process, and recording the
lines of long simulations would take minutes."""
PATIENCE = 4.0
"""Seconds that a test may take beyond ten times what it takes usually."""
IMPORTED = (
    "anyio",
    "apsw",
    "click",
    "httpx",
    "hypothesis.stateful",
    "litestar",
    "msgspec",
    "psutil",
    "rich.console",
    "uvicorn",
)


class Attempt(NamedTuple):
    """A file of the source tree, what is in it instead, and the tests to run with how long they take, in order."""

    path: str
    source: str
    tests: dict[str, float]


class Survey:
    """What the tests of a package are: how many seconds each takes, and by which tests a line is reached."""

    def __init__(self, seconds: dict[str, float], lines: dict[str, list[str]]) -> None:
        self.seconds = dict(sorted(seconds.items(), key=lambda one: one[1]))
        self._lines = lines

    def reaching(self, path: str, lines: range) -> dict[str, float]:
        """The tests to run when these lines change: all, where none is known to reach them."""
        found = {test for line in lines for test in self._lines.get(f"{path}:{line}", ())}
        return {test: time for test, time in self.seconds.items() if not found or test in found or time > SLOW}


class _Run:
    """A pytest plugin: ends the process when the tests have ended, before what they left behind is collected."""

    code = 1

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        self.code = exitstatus

    @pytest.hookimpl(tryfirst=True)
    def pytest_unconfigure(self) -> None:
        sys.stdout.flush()
        os._exit(self.code)


class _Chosen(_Run):
    """A pytest plugin: runs only these tests, in this order, and ends the process when one takes far too long."""

    def __init__(self, tests: dict[str, float]) -> None:
        self._tests = tests
        self._left = 60.0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        """Count short naps instead of looking at a clock: a stopped process does not use up its time."""
        while self._left > 0:
            time.sleep(0.05)
            self._left -= 0.05
        os._exit(1)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        order = {test: place for place, test in enumerate(self._tests)}
        items[:] = sorted((item for item in items if item.nodeid in order), key=lambda item: order[item.nodeid])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._left = PATIENCE + 10 * self._tests[nodeid]


class _Recorded(_Run):
    """A pytest plugin: writes to a file how long each test takes and which lines of `under` each of `fast` reaches."""

    def __init__(self, report: Path, tree: Path, under: str, fast: set[str] | None) -> None:
        self._report = report
        self._tree, self._under, self._fast = f"{tree}/", f"{tree}/{under}", fast
        self._lines: dict[str, set[str]] = defaultdict(set)
        self._reached: set[tuple[str, int]] = set()
        self._seconds: dict[str, float] = {}
        if fast is not None:
            threading.settrace(self._enter)
            sys.settrace(self._enter)

    def _enter(self, frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(self._under):
            return None
        self._reached.add((frame.f_code.co_filename, frame.f_lineno))
        return self._line

    def _line(self, frame: FrameType, event: str, argument: object) -> Any:
        self._reached.add((frame.f_code.co_filename, frame.f_lineno))
        return self._line

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self._fast is not None:
            items[:] = [item for item in items if item.nodeid in self._fast]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        began = time.monotonic()
        self._reached.clear()
        result = yield
        self._seconds[item.nodeid] = time.monotonic() - began
        for name, line in list(self._reached):
            self._lines[f"{name.removeprefix(self._tree)}:{line}"].add(item.nodeid)
        return result

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        super().pytest_sessionfinish(exitstatus)
        sys.settrace(None)
        lines = {line: sorted(tests) for line, tests in self._lines.items()}
        self._report.write_text(json.dumps([self._seconds, lines]))


class Runs:
    """Copies of the source tree in a folder, one for each run at a time."""

    def __init__(self, source: Path, folder: Path, jobs: int) -> None:
        ignored = shutil.ignore_patterns(".*", "__pycache__", "dist", "var")
        self._trees = [Path(shutil.copytree(source, folder / str(number), ignore=ignored)) for number in range(jobs)]
        self._number = 0
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        for module in IMPORTED:
            importlib.import_module(module)

    def survey(self, folders: Sequence[str], under: str) -> Survey:
        """Run all tests of these folders, which must pass, and record which lines of files in `under` they reach."""
        tree = self._trees[0]
        tests = [f"tests/{name}" for name in folders if (tree / "tests" / name).is_dir()]
        report = tree / "survey.json"

        def record(fast: set[str] | None) -> bool:
            return wait(fork(tree, lambda: run_pytest(tree, tests, _Recorded(report, tree, under, fast))))

        assert record(None), (tree / "output.txt").read_text()
        seconds: dict[str, float] = json.loads(report.read_text())[0]
        fast = {test for test, taken in seconds.items() if taken <= SLOW}
        record(fast)
        return Survey(seconds, json.loads(report.read_text())[1])

    def run(self, attempts: Iterator[tuple[T, Attempt]]) -> Iterator[tuple[T, bool]]:
        """Yields for each attempt, as they end, whether all of its tests passed."""
        free, running = list(self._trees), {}
        while True:
            while free and (following := next(attempts, None)):
                tree = free.pop()
                original = (tree / following[1].path).read_bytes()
                running[self._start(tree, following[1])] = tree, *following, original
            if not running:
                return
            process, status = os.wait()
            if process in running:
                tree, key, attempt, original = running.pop(process)
                end_group(process)
                (tree / attempt.path).write_bytes(original)
                free.append(tree)
                yield key, status == 0

    def _start(self, tree: Path, attempt: Attempt) -> int:
        changed = tree / attempt.path
        changed.write_text(attempt.source)
        self._number += 1
        os.utime(changed, (self._number, self._number))  # a compiled file belongs to a time in seconds: no two the same
        files = sorted({test.partition("::")[0] for test in attempt.tests})
        return fork(tree, lambda: run_pytest(tree, ["-x", *files], _Chosen(attempt.tests)))


def run_pytest(tree: Path, arguments: list[str], plugin: object) -> int:
    options = ["-n0", "--timeout", "0", "--basetemp", str(tree / "tmp")]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of what this process has imported already
    return pytest.main([*options, *arguments], [plugin])


def fork(tree: Path, function: Callable[[], int]) -> int:
    """The process, the leader of its own group, in which `function` runs with `tree` as its folder. It exits with what
    the function returns."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        os.setpgid(0, 0)
        output = os.open(tree / "output.txt", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        for descriptor in range(3):
            os.dup2(output, descriptor)
        os.chdir(tree)
        sys.path[:0] = [str(tree), str(tree / "plugins")]
        os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(tree / ".hypothesis")
        code = function()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(process: int) -> bool:
    """Whether a process ends with exit code 0."""
    _, status = os.waitpid(process, 0)
    end_group(process)
    return status == 0


def end_group(process: int) -> None:
    """Kill what a process has left running."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)
