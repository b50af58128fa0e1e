"""`gateway.testing`: a gateway in the test's process, with the test's plugins."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway import Context, CustomValueRequest, Event, Payment, Reject, Selector, Values, hookimpl
from gateway.config.convert import ConfigError
from gateway.testing import BlockingGateway, JournalKind, blocking_gateway, event_of, running_gateway

StartKit = Callable[..., BlockingGateway]
KINDS: tuple[JournalKind, ...] = ("memory", "disk")


class Keeps:
    """Keeps events in memory until its checkpoint, and then in a file, as a plugin with a buffer does."""

    class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        target: Path

    def __init__(self, config: Config) -> None:
        self.file = config.target
        self.lock = threading.Lock()
        self.buffer: list[str] = []
        self.redelivered: list[str] = []

    @hookimpl
    def on_event(self, event: Event) -> None:
        with self.lock:
            self.buffer.append(event.id)
            if event.redelivered:
                self.redelivered.append(event.id)

    @hookimpl
    def checkpoint(self) -> None:
        with self.lock, self.file.open("a") as file:
            file.writelines(f"{event_id}\n" for event_id in self.buffer)
            self.buffer.clear()

    def kept(self) -> list[str]:
        return self.file.read_text().split() if self.file.exists() else []


class Notes:
    """Notes what it gets, without a checkpoint; `fails` are the exceptions of its next calls."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.fails: list[Exception] = []

    @hookimpl
    async def on_payment(self, event: Event, payload: Payment) -> None:
        self.events.append(event)
        if self.fails:
            raise self.fails.pop(0)

    @hookimpl
    async def custom_values(self, request: CustomValueRequest) -> Values:
        return {name: f"{name} of {request.customer_uid}" for name in request.fields if name != "nobody knows"}


@pytest.mark.parametrize("journal", KINDS)
def test_events_reach_a_plugin_with_the_settings_of_its_table(journal: JournalKind, tmp_path: Path) -> None:
    """The class is made from its table, with paths relative to the config file."""
    with blocking_gateway(
        '[plugins.keeps]\ntarget = "kept.txt"', {"keeps": Keeps}, directory=tmp_path, journal=journal
    ) as gateway:
        sent = [gateway.webio.send("payment"), *gateway.webio.send_all().values()]
        gateway.until_delivered()
        assert sorted((tmp_path / "kept.txt").read_text().split()) == sorted(sent)
        assert gateway.states("keeps") == dict.fromkeys(sent, "delivered")


async def test_a_test_with_an_event_loop_awaits() -> None:
    """The same as an async context manager, with an instance that the test keeps."""
    notes = Notes()
    async with running_gateway(plugins={"notes": notes}) as gateway:
        sent = await gateway.webio.send("payment", amount="12.50")
        await gateway.webio.send("set-status")
        await gateway.until_delivered()
        assert [(event.id, event.fields()["amount"]) for event in notes.events] == [(sent, "12.50")]
        assert await gateway.webio.values("balance", customer_uid="7") == {"balance": "balance of 7"}
        assert (await gateway.webio.ask("nobody knows")).status == 404


def test_over_a_socket(webio_gateway: StartKit) -> None:
    """With `listen`, requests go through the server of `gateway run`."""
    notes = Notes()
    gateway = webio_gateway(plugins={"notes": notes}, listen=True)
    assert gateway.url.startswith("http://127.0.0.1:")
    sent = gateway.webio.send_burst(50, conversations=5)
    gateway.until_delivered()
    assert sorted(event.id for event in notes.events) == sorted(sent)
    assert len({event.conversation_id for event in notes.events}) == 5


@pytest.mark.parametrize("journal", KINDS)
def test_a_crash_before_the_checkpoint_redelivers(journal: JournalKind, webio_gateway: StartKit) -> None:
    """What was taken and not checkpointed comes again, redelivered, to a new instance; what was settled does not."""
    gateway = webio_gateway('[plugins.keeps]\ntarget = "kept.txt"', {"keeps": Keeps}, journal=journal)
    first = gateway.webio.send()
    gateway.until_delivered()
    before = gateway.plugin("keeps")
    gateway.hold_checkpoints("keeps")
    lost = [gateway.webio.send(), gateway.webio.send()]
    gateway.until_held("keeps", 3)
    assert before.kept() == [first]
    gateway.crash()
    gateway.until_delivered()
    after = gateway.plugin("keeps")
    assert after is not before
    assert after.kept() == [first, *lost]
    assert after.redelivered == lost


@pytest.mark.parametrize("journal", KINDS)
def test_a_crash_before_the_settlement_redelivers(journal: JournalKind, webio_gateway: StartKit) -> None:
    """The same for a plugin without a checkpoint."""
    notes = Notes()
    gateway = webio_gateway(plugins={"notes": notes}, journal=journal)
    gateway.hold_checkpoints("notes")
    sent = gateway.webio.send()
    gateway.until_held("notes")
    gateway.crash()
    gateway.until_delivered()
    assert [(event.id, event.redelivered) for event in notes.events] == [(sent, False), (sent, True)]


@pytest.mark.parametrize("journal", KINDS)
def test_dead_letters_are_told(journal: JournalKind, webio_gateway: StartKit) -> None:
    """`until_delivered` fails with the error; `dead_letters` has it; a retry delivers it."""
    notes = Notes()
    notes.fails = [Reject("no such account")]
    gateway = webio_gateway(plugins={"notes": notes}, journal=journal)
    sent = gateway.webio.send()
    with pytest.raises(AssertionError, match=rf"1 of the events became dead letters: {sent} .*no such account"):
        gateway.until_delivered()
    [letter] = gateway.dead_letters()
    assert (letter.event_id, letter.plugin, letter.attempts) == (sent, "notes", 1)
    assert gateway.retry_dead() == 1
    gateway.until(lambda: len(notes.events) == 2, "it comes again")
    gateway.until_delivered()
    assert gateway.dead_letters() == []


@pytest.mark.parametrize("journal", KINDS)
def test_replays_and_restarts(journal: JournalKind, webio_gateway: StartKit) -> None:
    """A replay delivers events again, as `replayed`; a clean restart delivers nothing again."""
    notes = Notes()
    gateway = webio_gateway(plugins={"notes": notes}, journal=journal)
    first, second = gateway.webio.send(), gateway.webio.send()
    gateway.until_delivered()
    gateway.restart()
    gateway.replay("notes", second)
    assert [(event.id, event.replayed) for event in notes.events] == [(first, False), (second, False), (second, True)]


def test_what_webio_repeats_and_breaks(webio_gateway: StartKit) -> None:
    """A repeated body is one event; every broken body is answered as it should be, and those that are events come."""
    notes = Notes()
    gateway = webio_gateway(plugins={"notes": notes})
    sent = gateway.webio.send_twice(amount="1")
    answers = gateway.webio.send_broken()
    gateway.until_delivered()
    assert notes.events[0].id == sent
    assert answers["an unknown type"].document["hook"] == "unknown"
    assert not answers["fields that do not fit"].document["readable"]
    assert answers["cut off"].status == 400


def test_a_wait_that_fails_says_what_is_wrong(webio_gateway: StartKit) -> None:
    """The message has the plugin and its error."""
    notes = Notes()
    notes.fails = [OSError("the target is away")] * 1000
    gateway = webio_gateway("[delivery]\nmax_attempts = 100000", {"notes": notes})
    gateway.webio.send()
    gateway.until(lambda: len(notes.events) > 5)
    with pytest.raises(AssertionError, match=r"not delivered within 0.05 s: plugin notes is .*OSError"):
        gateway.until_delivered(seconds=0.05)


def test_a_forgotten_customer(webio_gateway: StartKit) -> None:
    """`forget` asks the plugins, and says how many records each erased."""

    class Forgets(Notes):
        @hookimpl
        def forget(self, selector: Selector) -> int:
            gone = [event for event in self.events if selector.matches(event.organisation, event.raw)]
            self.events = [event for event in self.events if event not in gone]
            return len(gone)

    gateway = webio_gateway(plugins={"forgets": Forgets()})
    gateway.webio.send(customerUID="7")
    kept = gateway.webio.send(customerUID="8")
    gateway.until_delivered()
    assert gateway.forget(Selector(customer_uid="7")) == {"forgets": 1}
    assert [event.id for event in gateway.plugin("forgets").events] == [kept]
    assert list(gateway.states("forgets")) == [kept]


@pytest.mark.parametrize(
    ("config", "plugins", "message"),
    [
        ("[plugins.keeps]", {"keeps": Keeps}, "plugins.keeps.target: is missing"),
        ('[plugins.keeps]\ntarget = "a"\nflie = 1', {"keeps": Keeps}, "plugins.keeps.flie: unknown key"),
        ("[plugins.notes]\nurl = 1", {"notes": Notes()}, "plugins.notes: has settings (url), but an instance is given"),
        ("[plugins", {}, "config: "),
        ({"delivery": {"timeout": 3}}, {}, "delivery.timeout: expected a duration"),
    ],
)
def test_a_wrong_config_is_refused(config: Any, plugins: Mapping[str, Any], message: str) -> None:
    """With the gateway's own sentences."""
    with pytest.raises(ConfigError) as raised, blocking_gateway(config, plugins):
        pass
    assert message in str(raised.value)


def test_a_plugin_that_does_not_start(webio_gateway: StartKit, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start of the gateway fails, and says why."""

    class Never(Notes):
        @hookimpl
        def startup(self, context: Context) -> None:
            raise ConnectionRefusedError("no server at db.internal")

    monkeypatch.setattr("gateway.testing.in_process.PATIENCE", 0.2)
    with pytest.raises(AssertionError, match="ConnectionRefusedError"):
        webio_gateway(plugins={"never": Never()})


def test_hooks_can_be_called_with_made_events(plugin_context: Context) -> None:
    """A context has a folder for state, and an event is what the gateway makes of a body."""
    assert plugin_context.state_dir.is_dir()
    event = event_of({"type": "payment", "customerUID": "", "amount": 5}, id="one", redelivered=True)
    assert (event.id, event.hook, event.customer_uid, event.redelivered) == ("one", "payment", None, True)
    assert isinstance(event.payload, Payment)
    assert event.payload.extra == {"amount": 5}
