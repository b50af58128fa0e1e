"""The gateway's own log: what a line looks like, and what never gets into one."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator

import pytest

from gateway import log as logs
from gateway.config.tables import LogSettings

Lines = Callable[[], list[str]]
Configure = Callable[..., Lines]


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Configure]:
    """Configure the log with these settings; the lines that were written come from what is returned."""
    names = ("", "gateway", "plugins")
    before = [(logging.getLogger(name), logging.getLogger(name).level) for name in names]
    handlers = list(logging.getLogger().handlers)

    def configure(**settings: str) -> Lines:
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        logs.configure(LogSettings(**settings))  # type: ignore[arg-type]
        return lambda: stream.getvalue().rstrip("\n").split("\n")

    yield configure
    logging.getLogger().handlers[:] = handlers
    for logger, level in before:
        logger.setLevel(level)


LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (\w+) +([\w.]+): (.*)")


def test_a_line_on_the_console(configure: Configure) -> None:
    """Time in UTC, level, logger, message."""
    lines = configure()
    logging.getLogger("gateway.server").warning("the worker process %s", "died")
    [line] = lines()
    match = LINE.fullmatch(line)
    assert match is not None
    assert match.groups() == ("warning", "gateway.server", "the worker process died")


def test_a_line_of_json(configure: Configure) -> None:
    """The same, an object a line."""
    lines = configure(format="json")
    logging.getLogger("plugins.archive").error("two\nlines, \u2028, \ud800 and \0")
    [line] = lines()
    document = json.loads(line)
    assert list(document) == ["time", "level", "logger", "message"]
    assert document["level"] == "error"
    assert document["logger"] == "plugins.archive"
    assert document["message"] == "two\nlines, \u2028, ? and \0"


def test_nothing_in_a_message_makes_a_line(configure: Configure) -> None:
    """Line breaks, escape sequences and the like, which a request may have brought along, are taken out."""
    lines = configure()
    logging.getLogger("gateway").error("a\r\n2026-01-01T00:00:00Z error b\x1b[31m\u2028\u202e\0\ud800")
    [line] = lines()
    assert line.endswith("a\ufffd\ufffd2026-01-01T00:00:00Z error b\ufffd[31m\ufffd\ufffd\ufffd\ufffd")


def test_a_flood_is_cut_and_counted(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin or library that says the same all the time fills neither the disk nor the others' time; the others and
    the gateway itself are heard as before."""
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    lines = configure()
    for number in range(250):
        logging.getLogger("plugins.babbler").warning("here is line %d about nothing", number)
    logging.getLogger("plugins.archive").warning("a new day")
    for _ in range(150):
        logging.getLogger("gateway.server").warning("something happened")
    now += 1
    logging.getLogger("plugins.babbler").warning("later")
    messages = [match[3] for line in lines() if (match := LINE.fullmatch(line))]
    assert messages[:100] == [f"here is line {number} about nothing" for number in range(100)]
    assert messages[100:] == ["a new day", *["something happened"] * 150, "150 lines were left out", "later"]


def test_libraries_speak_up_from_warnings_on(configure: Configure) -> None:
    """The gateway and the plugins from the configured level on."""
    lines = configure(level="debug")
    for name in ("gateway.x", "plugins.y", "sqlalchemy.engine", "httpx"):
        for level in (logging.DEBUG, logging.INFO, logging.WARNING):
            logging.getLogger(name).log(level, "said")
    found = [match.groups()[:2] for line in lines() if (match := LINE.fullmatch(line))]
    both = [(level, name) for name in ("gateway.x", "plugins.y") for level in ("debug", "info", "warning")]
    assert found == [*both, ("warning", "sqlalchemy.engine"), ("warning", "httpx")]


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_traceback_is_for_debugging(configure: Configure, form: str) -> None:
    """At every other level the error is told in the line, without long numbers."""
    for level, traced in (("info", False), ("debug", True)):
        lines = configure(level=level, format=form)
        try:
            raise RuntimeError("no 447700900123")
        except RuntimeError:
            logging.getLogger("asyncio").exception("it failed")
        text = "\n".join(lines())
        assert ("Traceback" in text) is traced
        if not traced:
            assert len(lines()) == 1
            assert "it failed (RuntimeError: no …)" in text


def test_a_line_that_cannot_be_written(configure: Configure) -> None:
    """Logging's own complaint would show the arguments, and a traceback."""
    lines = configure()
    logging.getLogger("plugins.mine").error("%d customers", "447700900123")
    assert lines() == ["a log line of plugins.mine could not be written"]


async def test_a_limit_says_what_it_left_out(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """When its time is over, without another line; after that lines count anew. One line is "1 line"."""
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "call_later", lambda delay, report, context: loop.call_soon(report))
    reported = asyncio.Event()

    def left_out(count: int) -> str:
        reported.set()
        return f"{count} more"

    log = logging.getLogger("gateway.test")
    for limit in (logs.RateLimit(log, lines=2, seconds=3600), logs.RateLimit(log, 1, 3600, left_out)):
        for number in range(3):
            limit.warning("line %d", number)
    await reported.wait()
    limit.error("later")
    assert caplog.messages == ["line 0", "line 1", "line 0", "1 line was left out", "2 more", "later"]
