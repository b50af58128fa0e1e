"""What the log says of a plugin's exceptions."""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path

import msgspec
import pytest
from delivering import Plain, delivering
from running import read_config

from gateway.config.tables import LogSettings
from gateway.log import _OneLine
from gateway.plugin_host.fault_log import FaultLog, frames

log = logging.getLogger("gateway.delivery")
SECRET = "canary-7001"


class Talkative(Exception):
    """A plugin's exception whose message has no personal data."""

    loggable = True


def fails(kind: type[Exception] = ValueError) -> Exception:
    """An exception that was raised here, with a cause."""
    try:
        try:
            raise KeyError(SECRET)
        except KeyError as cause:
            raise kind(f"no row for {SECRET}") from cause
    except kind as error:
        return error


def test_the_first_of_a_kind_has_its_traceback_without_its_message(caplog: pytest.LogCaptureFixture) -> None:
    """Frames with file, line and function, also those of the cause; nothing that the exception says, and no source."""
    faults = FaultLog("test_fault_log", messages=False)
    faults.warning(log, "plugin crm", fails())
    [record] = caplog.records
    assert re.fullmatch(r"plugin crm failed: ValueError at test_fault_log\.py:\d+", record.getMessage())
    for text in (_OneLine(json=False).format(record), _OneLine(json=True).format(record)):
        assert SECRET not in text
        assert "raise" not in text
    lines = _OneLine(json=False).format(record).splitlines()
    assert re.fullmatch(rf'  File "{re.escape(__file__)}", line \d+, in fails', lines[1])
    assert lines[2] == "  caused by KeyError"
    document = msgspec.json.decode(_OneLine(json=True).format(record))
    assert document["traceback"] == [line.strip() for line in lines[1:]]


async def test_repeats_are_counted(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one kind, in one line; another kind or place is logged at once."""
    monkeypatch.setattr("gateway.plugin_host.fault_log.EVERY", 0.2)
    faults = FaultLog("test_fault_log", messages=False)
    for _ in range(18):
        faults.warning(log, "plugin crm", fails())
    faults.warning(log, "plugin crm", fails(OSError))
    async with asyncio.timeout(20):
        while len(caplog.records) < 3:
            await asyncio.sleep(0.01)
    _, other, repeats = (record.getMessage() for record in caplog.records)
    assert "OSError" in other
    assert re.fullmatch(
        r"plugin crm failed 17 more times in the last 0\.2 s: ValueError at test_fault_log\.py:\d+", repeats
    )
    assert [hasattr(record, "traceback") for record in caplog.records] == [True, True, False]


def test_a_plugin_that_makes_a_class_for_each_failure_does_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """At most ten kinds in ten seconds."""
    faults = FaultLog("test_fault_log", messages=False)
    for number in range(1000):
        faults.warning(log, "plugin crm", type(f"Failure{number}", (Exception,), {})())
    assert len(caplog.records) == 10


@pytest.mark.parametrize(
    ("kind", "messages", "shown"), [(ValueError, True, True), (Talkative, False, True), (ValueError, False, False)]
)
def test_the_message_is_logged_where_that_is_allowed(kind: type[Exception], messages: bool, shown: bool) -> None:
    """By `plugin_messages`, or by the exception's own class."""
    told = FaultLog("test_fault_log", messages).told(fails(kind))
    assert (f": no row for {SECRET}" in told) == shown


async def test_plugin_messages_is_a_key_of_the_config(tmp_path: Path) -> None:
    """Off by default."""
    assert LogSettings().plugin_messages is False
    assert read_config(tmp_path, "[log]\nplugin_messages = true\n").log.plugin_messages


async def test_a_dead_letter_has_type_and_place(tmp_path: Path) -> None:
    """Beside the message, which the log does not have."""
    plugin = Plain({1: [ValueError("no account") for _ in range(3)]})
    async with delivering(tmp_path, {"a": plugin}) as rig:
        for conversation in ("x", "y", "z"):  # the plugin takes the others, so that its failures count
            await rig.send(conversation)
        await rig.idle()
        [(*_, error)] = rig.dead()
    assert re.fullmatch(r"ValueError at \w+\.py:\d+: no account", error)


def test_a_long_traceback_is_cut() -> None:
    """The newest calls are the ones that matter."""

    def deep(left: int) -> None:
        if left == 0:
            raise ValueError
        deep(left - 1)

    with pytest.raises(ValueError) as raised:
        deep(100)
    lines = list(frames(raised.value))
    assert len(lines) == 31
    assert lines[0] == "without 72 earlier calls"
