"""`check_plugin`: a sound plugin reaches the highest tier, and each check finds the fault that it is for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import pytest

from gateway import Context, CustomValueRequest, Event, Notice, Reject, Secret, Selector, Values, hookimpl
from gateway.testing import CHECKS, Outcome, PluginCase, Tier, check_plugin

AWAY = "the target is away"


class Writes:
    """Writes each event into a table, once."""

    class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        database: Annotated[Path, msgspec.Meta(description="The SQLite file.")]
        password: Annotated[Secret | None, msgspec.Meta(description="A password.")] = None

    def __init__(self, config: Config) -> None:
        self.config = config
        self.lock = threading.Lock()
        self.rows: list[tuple[str, str, bytes]] = []

    @hookimpl
    def startup(self, context: Context) -> None:
        with self.connection() as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS events (id TEXT PRIMARY KEY, organisation TEXT, body BLOB)")

    @hookimpl
    def shutdown(self) -> None:
        self.rows.clear()

    @hookimpl
    def on_event(self, event: Event) -> None:
        with self.lock:
            self.rows.append((event.id, event.organisation, event.raw))

    @hookimpl
    def checkpoint(self) -> None:
        with self.lock:
            rows, self.rows = self.rows, []
        with self.connection() as connection:
            connection.executemany("INSERT OR IGNORE INTO events VALUES (?, ?, ?)", rows)

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        if self.config.database.with_suffix(".away").exists():
            raise ConnectionError(AWAY)
        connection = sqlite3.connect(self.config.database)
        try:
            with connection:
                yield connection
        finally:
            connection.close()


class Sound(Writes):
    """Writes each event into a table, once, and forgets it."""

    @hookimpl
    def forget(self, selector: Selector) -> int:
        with self.connection() as connection:
            rows = connection.execute("SELECT id, organisation, body FROM events").fetchall()
            gone = [(row[0],) for row in rows if selector.matches(row[1], row[2])]
            connection.executemany("DELETE FROM events WHERE id = ?", gone)
        return len(gone)


class SoundValues:
    """Knows one customer, unless its file says that it is away."""

    class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        database: Annotated[Path, msgspec.Meta(description="The file.")]

    def __init__(self, config: Config) -> None:
        self.config = config

    @hookimpl
    async def custom_values(self, request: CustomValueRequest) -> Values:
        if self.config.database.with_suffix(".away").exists():
            raise ConnectionError(AWAY)
        known = {"balance": "120.50"} if request.customer_uid == "123456" else {}
        return {field: known[field] for field in request.fields_for("customer_uid") if field in known}


def case(folder: Path) -> PluginCase:
    path = folder / "events.db"
    (folder / "password").write_text("the-password-of-the-target-with-32-bytes")

    @contextmanager
    def away() -> Iterator[None]:
        path.with_suffix(".away").touch()
        try:
            yield
        finally:
            path.with_suffix(".away").unlink()

    def ids() -> list[str]:
        if not path.exists():
            return []
        with contextlib.closing(sqlite3.connect(path)) as connection:
            return [row[0] for row in connection.execute("SELECT id FROM events")]

    return PluginCase(
        config={"database": str(path), "password": {"file": "password"}},
        taken=ids,
        fails=away,
        secrets=("the-password-of-the-target-with-32-bytes",),
    )


def values_case(folder: Path) -> PluginCase:
    sound = case(folder)
    return PluginCase(config={"database": sound.config["database"]}, values={"balance": "120.50"}, fails=sound.fails)


@pytest.mark.parametrize(("plugin", "make"), [(Sound, case), (SoundValues, values_case)])
def test_a_sound_plugin_is_complete(plugin: type, make: Callable[[Path], PluginCase]) -> None:
    """Every check passes, or does not concern it."""
    report = check_plugin(plugin, make)
    report.require("complete")
    assert report.tier is Tier.COMPLETE, report
    passed = {one.name for one in report.results if one.outcome is Outcome.PASSED}
    if plugin is Sound:
        assert {"repeat_is_safe", "outage_loses_nothing", "memory_is_bounded", "forgets"} <= passed
    else:
        assert {"unknown_is_not_answered", "failing_target_is_a_failure"} <= passed


class Loud(Sound):
    """Keeps its logger, from which every handler is reachable."""

    def __init__(self, config: Sound.Config) -> None:
        super().__init__(config)
        self.log = logging.getLogger("plugins.loud")

    @hookimpl
    def on_event(self, event: Event) -> None:
        super().on_event(event)
        self.log.info("got one")


def test_what_the_log_keeps_is_not_the_plugins(caplog: pytest.LogCaptureFixture) -> None:
    """The lines that pytest collects, one for each event."""
    caplog.set_level(logging.INFO)
    check_plugin(Loud, case).require("safe")
    assert "got one" in caplog.messages


class Lax(Sound):
    class Config(Sound.Config, frozen=True, kw_only=True, forbid_unknown_fields=False):
        pass


class OpensEarly(Sound):
    def __init__(self, config: Sound.Config) -> None:
        super().__init__(config)
        config.database.touch()


class StartsEarly(Sound):
    def __init__(self, config: Sound.Config) -> None:
        super().__init__(config)
        threading.Thread(target=threading.Event().wait, name="early", daemon=True).start()


class CheckWrites(Sound):
    @hookimpl
    def check(self) -> None:
        self.config.database.with_name("probe").write_text("")
        self.config.database.with_name(f"probe{id(self)}").write_text("")


class LeavesThread(Sound):
    @hookimpl
    def startup(self, context: Context) -> None:
        super().startup(context)
        threading.Thread(target=threading.Event().wait, name="left behind", daemon=True).start()


class LeavesTask(Sound):
    @hookimpl
    async def startup(self, context: Context) -> None:  # type: ignore[override]
        super().startup(context)
        self.task = asyncio.create_task(asyncio.Event().wait(), name="left alone")


class NeedsStart(Sound):
    opened: list[str] | None = None

    @hookimpl
    def startup(self, context: Context) -> None:
        super().startup(context)
        self.opened = []

    @hookimpl
    def shutdown(self) -> None:
        assert self.opened is not None, "not opened"


class Stumbles(Sound):
    @hookimpl
    def on_event(self, event: Event) -> None:
        if event.payload is None:
            raise ValueError("no payload")
        super().on_event(event)


class WritesLate(Sound):
    @hookimpl
    def checkpoint(self) -> None:
        if len(self.rows) > 10_000:
            super().checkpoint()


class Doubles(Sound):
    @hookimpl
    def startup(self, context: Context) -> None:
        with self.connection() as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS events (id TEXT, organisation TEXT, body BLOB)")


class Swallows(Sound):
    @hookimpl
    def checkpoint(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().checkpoint()


class RejectsAll(Sound):
    @hookimpl
    def on_event(self, event: Event) -> None:
        if self.config.database.with_suffix(".away").exists():
            raise Reject("away")
        super().on_event(event)


class Hoards(Sound):
    @hookimpl
    def on_event(self, event: Event) -> None:
        vars(self).setdefault("all", []).append([event.id])
        super().on_event(event)


class Gossips(Sound):
    @hookimpl
    def on_event(self, event: Event) -> None:
        logging.getLogger("plugins.gossip").debug("of %s", event.customer_uid)
        super().on_event(event)


class TellsSecret(Sound):
    @hookimpl
    def checkpoint(self) -> None:
        try:
            super().checkpoint()
        except ConnectionError:
            assert self.config.password is not None
            raise ConnectionError(f"cannot log in with {self.config.password.text()}") from None


class ForgetsAll(Sound):
    @hookimpl
    def forget(self, selector: Selector) -> int:
        with self.connection() as connection:
            return connection.execute("DELETE FROM events").rowcount


class Undescribed(Sound):
    class Config(Sound.Config, frozen=True, kw_only=True, forbid_unknown_fields=True):
        table: str = "events"


class Untyped(Sound):
    """An event whose type nobody knows."""

    def on_event(self, event):  # type: ignore[no-untyped-def]
        super().on_event(event)


class Guesses(SoundValues):
    async def custom_values(self, request: CustomValueRequest) -> Values:
        return dict.fromkeys(request.fields, "120.50")


class Wrong(SoundValues):
    async def custom_values(self, request: CustomValueRequest) -> Values:
        return {"balance": "0.00"}


class Silent(SoundValues):
    async def custom_values(self, request: CustomValueRequest) -> Values:
        try:
            return await super().custom_values(request)
        except ConnectionError:
            return {}


class TellsValues(SoundValues):
    async def custom_values(self, request: CustomValueRequest) -> Values:
        logging.getLogger("plugins.values").info("asked about %s", request.customer_uid)
        return await super().custom_values(request)


class Stammers(Sound):
    def notice(self, notice: Notice) -> None:
        if notice.kind == "journal" and notice.recovered:
            raise ValueError("no chat")


class TellsHook(Sound):
    def notice(self, notice: Notice) -> None:
        assert self.config.password is not None
        logging.getLogger("plugins.chat").debug("posting to %s", self.config.password.text())


class Spawns(Sound):
    @hookimpl
    async def startup(self, context: Context) -> None:  # type: ignore[override]
        super().startup(context)
        context.spawn(asyncio.Event().wait(), "waits for ever")


class Useless:
    """Has no hook."""

    def check(self) -> None: ...


FAULTS = [
    (Lax, "config_is_strict", "Lax.Config takes unknown keys; write forbid_unknown_fields=True"),
    (OpensEarly, "constructor_has_no_side_effects", "the constructor changed files: events.db"),
    (StartsEarly, "constructor_has_no_side_effects", "the constructor left the threads early"),
    (CheckWrites, "check_changes_nothing", "check changed files: probe"),
    (LeavesThread, "starts_and_stops", "shutdown left the threads left behind"),
    (LeavesTask, "starts_and_stops", "shutdown left the tasks left alone"),
    (NeedsStart, "stops_without_a_start", "shutdown raised AssertionError: not opened"),
    (Stumbles, "takes_every_event", "an event became a dead letter: ValueError.*raise Reject"),
    (WritesLate, "settled_is_durable", "20 of 20 events are not in the target"),
    (Doubles, "repeat_is_safe", "events are in the target more than once"),
    (WritesLate, "checkpoint_comes_before_the_cursor", "events are not in the target"),
    (Swallows, "outage_loses_nothing", "took events while its target failed"),
    (RejectsAll, "outage_loses_nothing", "an outage made .* dead letters: Reject"),
    (Hoards, "memory_is_bounded", r"keeps about \d.\d objects of each event"),
    (Gossips, "nothing_personal_is_said", "'canarycustomer' is in 'the log of plugins.gossip: of "),
    (TellsSecret, "nothing_personal_is_said", "is in 'an exception in the checkpoint of plugin checked"),
    (Writes, "forgets", r"keeps events and has no forget\(selector\)"),
    (ForgetsAll, "forgets", "forget by customerUID erased an event of another"),
    (Undescribed, "settings_are_described", "without a description: table"),
    (Undescribed, "is_described", "Undescribed has no docstring"),
    (Untyped, "is_typed", "on_event lacks types: event, its result"),
    (Guesses, "unknown_is_not_answered", "'a field that nobody has' .* was answered 200, not 404"),
    (Wrong, "customer_gets_the_right_values", "the fields balance were answered 200, not as given"),
    (Silent, "failing_target_is_a_failure", "while the target failed, the bot was answered 404"),
    (TellsValues, "nothing_personal_of_questions_is_said", "'canarycustomer' is in 'the log of plugins.values"),
    (Useless, "is_of_use", "the plugin has no hook for events, notices or custom values"),
    (Stammers, "takes_notices", "notice raised ValueError: no chat"),
    (TellsHook, "takes_notices", "is in 'the log of plugins.chat"),
]


def test_tasks_that_the_gateway_cancels_are_not_left_behind() -> None:
    """`context.spawn` has them end before `shutdown`, in the checks as in a gateway."""
    check_plugin(Spawns, case, only=["starts_and_stops", "stops_without_a_start"]).require("starts")


@pytest.mark.parametrize(("plugin", "check", "message"), FAULTS, ids=lambda one: getattr(one, "__name__", None))
def test_a_check_finds_its_fault(plugin: type, check: str, message: str) -> None:
    """The check fails with a message that says what to do, and the tier that it belongs to is not reached."""
    make = values_case if issubclass(plugin, SoundValues) else case
    report = check_plugin(plugin, make, only=[check])
    [result] = report.results
    assert result.outcome is Outcome.FAILED, report
    with pytest.raises(AssertionError, match=f"does not reach the tier complete:\n  .*{check}: failed: .*{message}"):
        report.require("complete")
    assert report.tier != Tier.COMPLETE


def test_each_check_has_a_fault_that_it_finds() -> None:
    """And says in its docstring what it requires."""
    checks = {check.__name__: check for checks in CHECKS.values() for check in checks}
    assert {check for _, check, _ in FAULTS} | {"refusal_is_a_dead_letter"} == set(checks)
    assert all(check.__doc__ for check in checks.values())


class Refuses(Sound):
    """Raises what it is told to for events in a conversation."""

    error: BaseException = Reject("no such account")

    def on_event(self, event: Event) -> None:
        if self.config.database.with_suffix(".full").exists():
            raise self.error
        super().on_event(event)


class Retries(Refuses):
    error = ValueError("no such account")


@pytest.mark.parametrize(("plugin", "outcome"), [(Refuses, Outcome.PASSED), (Retries, Outcome.FAILED)])
def test_a_target_that_refuses(plugin: type, outcome: Outcome) -> None:
    """An event that can never be taken is for `Reject`, at the first attempt."""

    def refusing(folder: Path) -> PluginCase:
        @contextmanager
        def full() -> Iterator[None]:
            (folder / "events.full").touch()
            yield
            (folder / "events.full").unlink()

        sound = case(folder)
        return PluginCase(config=sound.config, taken=sound.taken, refuses=full)

    [result] = check_plugin(plugin, refusing, only=["refusal_is_a_dead_letter"]).results
    assert result.outcome is outcome, result


def test_what_the_author_has_to_give() -> None:
    """A check says what it needs of the case; an unknown check is an error."""

    def bare(folder: Path) -> PluginCase:
        return PluginCase(config={"database": "events.db"})

    [result] = check_plugin(Sound, bare, only=["repeat_is_safe"]).results
    assert "give PluginCase(taken=...)" in result.message
    [result] = check_plugin(SoundValues, bare, only=["unknown_is_not_answered"]).results
    assert "give PluginCase(values=...)" in result.message
    with pytest.raises(ValueError, match="unknown checks nonsense; known: "):
        check_plugin(Sound, bare, only=["nonsense"])


async def test_beside_an_event_loop() -> None:
    """In an async test it runs in a thread, so that the loop goes on."""
    report = await asyncio.to_thread(check_plugin, Sound, case, only=["starts_and_stops"])
    assert report.tier is Tier.COMPLETE, report
