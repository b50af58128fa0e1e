"""Follows a tutorial: writes the files that a markdown page shows and runs its commands, in the order of the page.

A code block with a title is a file: `title="ledger.py"` makes it, `title="config.toml, at its end"` appends to it. A
block `sh` has a command in each line, and a block `text` right after it shows what they print.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from sample_ports import use_free_ports

PATIENCE = 60.0
APPENDED = ", at its end"
NOT_RUN = {
    "python3 -m venv": "the environment of the tests is there already",
    "source ": "its commands are on the path already",
    "pip install": "tests/try_wheel.py installs the wheel into a fresh environment",
}
READING = ("psql ", "gateway events")
"""Commands that show what happens in the background: they are run again until they print what the page shows."""
_BLOCK = re.compile(r'^```(\w+)(?: title="([^"]*)")?\n(.*?)^```\n', re.MULTILINE | re.DOTALL)
_DIFFERENT = (
    (r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", "ID"),
    (r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}", "TIME"),
    (r"(?<=127\.0\.0\.1:)\d+", "PORT"),
    (r"(?<= in )[0-9.]+s", "SECONDS"),
    (r"\b\d{16}\b", "CONVERSATION"),
)


class Step(NamedTuple):
    """A file to write (`title` names it), or commands and, unless None, what they print."""

    title: str | None
    text: str
    printed: str | None


def steps(page: str) -> Iterator[Step]:
    """The steps of a page. `ValueError` for a block that is neither a file nor commands nor printed by commands."""
    blocks = list(_BLOCK.finditer(page))
    for block, after in zip(blocks, [*blocks[1:], None], strict=True):
        language, title, text = block.groups()
        if title is not None:
            yield Step(title, text, None)
        elif language == "sh":
            shown = after is not None and after[1] == "text" and not page[block.end() : after.start()].strip()
            yield Step(None, text, after[3] if after is not None and shown else None)
        elif language != "text":
            raise ValueError(f"a block {language} without a title: {text[:60]!r}")


def follow(page: str, folder: Path, own: dict[str, str]) -> list[str]:
    """Follow a page in an empty folder; returns the commands that were run. In commands, a text of the page such as
    the URL of a database is replaced as `own` says. `AssertionError` where a command fails or prints something else."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "GATEWAY"))}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "120"}
    ran = []
    with ExitStack() as running:
        for step in steps(page):
            if step.title is not None:
                name, end, _ = step.title.partition(APPENDED)
                with (folder / name).open("a" if end else "x") as file:
                    file.write(step.text)
                continue
            printed = ""
            for command in step.text.splitlines():
                if command.startswith(tuple(NOT_RUN)):
                    continue
                ran.append(command)
                for shown, value in own.items():
                    command = command.replace(shown, value)
                if command.startswith("export "):
                    name, _, value = command.removeprefix("export ").partition("=")
                    environment[name] = value.strip('"')
                elif command == "gateway run":
                    printed += _serve(running, folder, environment)
                else:
                    printed += _run(command, folder, environment, step.printed)
                if command == "gateway init":
                    use_free_ports(folder / "config.toml")
            if step.printed is not None:
                assert _normal(printed) == _normal(step.printed), f"{step.text}printed:\n{printed}"
    return ran


def _run(command: str, folder: Path, environment: dict[str, str], expected: str | None) -> str:
    deadline = time.monotonic() + PATIENCE
    while True:
        done = subprocess.run(
            ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        wrong = expected is not None and _normal(done.stdout) != _normal(expected)
        if not (wrong and command.startswith(READING)) or time.monotonic() > deadline:
            return done.stdout
        time.sleep(0.2)


def _serve(running: ExitStack, folder: Path, environment: dict[str, str]) -> str:
    """Start the gateway, which stops at the end as by Ctrl+C; returns what it prints once it serves."""
    log = running.enter_context((folder / "gateway.log").open("w"))
    command = ["gateway", "run"]
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
    running.callback(_stop, process)
    assert process.stdout is not None
    return "".join(process.stdout.readline() for _ in ("public", "admin"))


def _stop(process: subprocess.Popen[str]) -> None:
    try:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, f"the gateway exited {process.returncode} after Ctrl+C"
    finally:
        process.kill()


def _normal(printed: str) -> list[str]:
    """The lines, without what differs from run to run."""
    for pattern, word in _DIFFERENT:
        printed = re.sub(pattern, word, printed)
    return [re.sub(r" +", " ", line).rstrip() for line in printed.strip().splitlines()]
