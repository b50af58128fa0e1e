"""`gateway forget`: a customer, an address or a conversation is erased everywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from running import RunningGateway, eventually, running

from gateway.journal import open_reader
from gateway.journal.interface import Filter
from gateway.simulate import body, encode

UID, ADDRESS, CONVERSATION, WORD = "uid-77731905", "353867773190", "conversation-77731905", "zanzibar77731905"
TRACES = (UID, ADDRESS, CONVERSATION, WORD)

# Rejects what mentions the word, and keeps the text of everything else in a file; forgets unless `broken` is there.
CRM = """
from pathlib import Path
from gateway import Reject, hookimpl

class Plugin:
    @hookimpl
    def startup(self, context):
        self.directory = Path(context.directory)
        (self.directory / "started").touch()

    @hookimpl
    def on_event(self, event):
        if b"zanzibar" in event.raw:
            raise Reject("no such account: " + event.raw.decode())

    @hookimpl
    def forget(self, selector):
        if (self.directory / "broken").exists():
            raise RuntimeError(f"the account {selector.customer_uid} is locked")
        return 3
"""
CONFIG = """
[plugins.archive]
directory = "archive"
[plugins.crm]
[values]
audit = true
"""


COUNTING = """
from gateway import hookimpl

class Plugin:
    asked = 0

    @hookimpl
    def custom_values(self, request):
        self.asked += 1
        return {"asked": f"{self.asked}"}
"""


@contextmanager
def gateway_with_them(directory: Path) -> Iterator[RunningGateway]:
    """Six messages of the customer, one of which is a dead letter, and six of others."""
    with running(directory, CONFIG, plugins={"crm": CRM}) as started:
        with started.client() as client:
            for number in range(12):
                raw = body("inbound-message")
                if number % 2:
                    text = WORD if number == 1 else "hello"
                    theirs = {"customerUID": UID, "outboundChannelAddress": f"+{ADDRESS}", "body": text}
                    raw |= {**theirs, "conversationId": CONVERSATION}
                assert client.post(encode(raw)).status == 200
        eventually(lambda: lines(directory) == 12 and dead(started) == 1)
        yield started


def lines(directory: Path) -> int:
    return sum(len(file.read_bytes().splitlines()) for file in directory.glob("archive/*/*/*.jsonl"))


def dead(gateway: RunningGateway) -> int:
    with closing(open_reader(gateway.config)) as reader:
        return reader.count_dead(Filter())


def events(gateway: RunningGateway) -> int:
    with closing(open_reader(gateway.config)) as reader:
        return reader.count(Filter())


def left(directory: Path) -> list[str]:
    """The files with a trace of the customer; the log and the plugin's code are not the gateway's data."""
    return [
        file.name
        for file in directory.rglob("*")
        if file.is_file() and any(trace.encode() in file.read_bytes() for trace in TRACES)
    ]


def forget(gateway: RunningGateway, *arguments: str) -> CompletedProcess[str]:
    return gateway.cli("forget", *arguments)


@pytest.mark.parametrize(
    "by",
    [("--customer", UID), ("--address", f"({ADDRESS})"), ("--conversation", CONVERSATION)],
    ids=lambda by: by[0],
)
def test_no_byte_of_it_is_left_while_the_gateway_runs(tmp_path: Path, by: tuple[str, str]) -> None:
    """In the journal, its log, the search index and the archive; the counts are told as JSON, and nobody else's data
    goes."""
    with gateway_with_them(tmp_path) as gateway:
        assert json.loads(forget(gateway, *by, "--dry-run", "--json").stdout) == {
            "matched": 6,
            "done": 0,
            "plugins": {},
        }
        assert left(tmp_path)
        result = forget(gateway, *by, "--yes", "--json")
        assert result.returncode == 0, result.stdout + result.stderr
        told = json.loads(result.stdout)
        assert (told["matched"], told["done"], told["plugins"]) == (6, 6, {"archive": 6, "crm": 3})
        assert left(tmp_path) == []
        assert (lines(tmp_path), events(gateway), dead(gateway)) == (6, 6, 0)
        with gateway.client() as client:  # events go on
            assert client.post(encode(body("payment"))).status == 200
        eventually(lambda: lines(tmp_path) == 7)
    assert left(tmp_path) == []


def test_without_a_running_gateway_plugins_are_started_for_it(tmp_path: Path) -> None:
    """Started, asked and shut down; the archive's lines go, too."""
    with gateway_with_them(tmp_path) as gateway:
        pass
    (tmp_path / "started").unlink()
    result = forget(gateway, "--customer", UID, "--json")
    assert result.returncode == 0, result.stdout + result.stderr
    assert json.loads(result.stdout)["plugins"] == {"archive": 6, "crm": 3}
    assert (tmp_path / "started").exists()
    assert left(tmp_path) == []
    assert (lines(tmp_path), events(gateway), dead(gateway)) == (6, 6, 0)


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_a_plugin_that_fails_is_named_and_the_command_can_be_repeated(tmp_path: Path, stopped: bool) -> None:
    """Exit code 1; what the exception says is not shown, all others are done; a second attempt asks every plugin."""
    with gateway_with_them(tmp_path) as gateway:
        (tmp_path / "broken").touch()
        if not stopped:
            fails_once(tmp_path, gateway)
    if stopped:
        fails_once(tmp_path, gateway)


def fails_once(directory: Path, gateway: RunningGateway) -> None:
    result = forget(gateway, "--customer", UID, "--json")
    assert result.returncode == 1
    told: dict[str, Any] = json.loads(result.stdout)
    assert told["plugins"] == {"archive": 6}
    assert told["failed"]["crm"].startswith("RuntimeError at plugin_crm.py")
    assert UID not in result.stdout + result.stderr
    assert "plugin crm failed: RuntimeError at plugin_crm.py" in result.stderr
    (directory / "broken").unlink()
    again = forget(gateway, "--customer", UID, "--json")
    assert (again.returncode, json.loads(again.stdout)["plugins"]) == (0, {"archive": 0, "crm": 3})


def test_the_log_has_a_line_without_what_was_erased(tmp_path: Path) -> None:
    """When, how many, and by which kind of selector."""
    with gateway_with_them(tmp_path) as gateway:
        assert forget(gateway, "--customer", UID, "--yes").returncode == 0
        eventually(lambda: "erasure (customer …05): number 1, 6 events matched" in gateway.text)
        assert UID not in gateway.text


def test_copies_of_the_journal_are_named(tmp_path: Path) -> None:
    """Those that the gateway makes beside its journal; they are not changed."""
    with gateway_with_them(tmp_path) as gateway:
        journal = gateway.config.journal.path
        copy = journal.with_name(f"{journal.name}.before-8")
        copy.write_bytes(b"a copy")
        result = forget(gateway, "--customer", UID)
        assert f"{copy} is a copy of the journal from before, and was not changed" in result.stderr
        assert "journal: 6 events and no value records erased\narchive: 6 records erased" in result.stdout
        assert copy.read_bytes() == b"a copy"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "name one of --customer, --address and --conversation"),
        (("--customer", "1", "--address", "+353861234567"), "name one of --customer, --address and --conversation"),
        (("--customer", ""), "name one of --customer, --address and --conversation"),
        (("--address", " "), "expected an address such as +353861234567"),
        (("--customer", "1", "--organisation", "acne"), "did you mean"),
    ],
)
def test_what_does_not_select_one_thing_is_refused(tmp_path: Path, arguments: tuple[str, ...], sentence: str) -> None:
    """A misspelt selector erases nothing."""
    with running(tmp_path) as gateway:
        result = forget(gateway, *arguments)
        assert (result.returncode, sentence in result.stdout + result.stderr) == (2, True), (
            result.stdout + result.stderr
        )


@pytest.mark.parametrize("which", [{}, {"hook": "payment"}, {"customer": "1", "hook": "payment"}, {"customer": ""}])
def test_the_api_refuses_any_other_filter(tmp_path: Path, which: dict[str, str]) -> None:
    """400: it erases by customer, address or conversation only."""
    from gateway.cli.admin_client import request
    from gateway.cli.failures import Failure

    with running(tmp_path) as gateway, pytest.raises(Failure, match="400: filter: expected exactly one"):
        request(gateway.config, "POST", "/api/operations", {"kind": "forget", "filter": which})


# Asks for a retry of everything until the file `open` is there, and writes down whose events it took.
SHOP = """
from pathlib import Path
from gateway import Retry, hookimpl

class Plugin:
    @hookimpl
    def startup(self, context):
        self.directory = Path(context.directory)

    @hookimpl
    def on_event(self, event):
        if not (self.directory / "open").exists():
            raise Retry("closed", after=0.2)
        with (self.directory / "taken").open("a") as taken:
            taken.write(f"{event.customer_uid}\\n")
"""


@pytest.mark.parametrize("again", [False, True], ids=["goes on", "restarts"])
def test_events_that_wait_for_a_plugin_are_not_delivered_any_more(tmp_path: Path, again: bool) -> None:
    """Neither those that it is to get again nor those behind them; the others of the conversation come in order."""
    with running(tmp_path, "[plugins.shop]\n", plugins={"shop": SHOP}) as gateway:
        with gateway.client() as client:
            for number in range(10):
                raw = body("inbound-message") | {"conversationId": CONVERSATION, "customerUID": f"other-{number}"}
                assert client.post(encode(raw | ({} if number % 2 else {"customerUID": UID}))).status == 200
        eventually(lambda: "retrying" in gateway.cli("events", "--json").stdout)
        assert json.loads(forget(gateway, "--customer", UID, "--json").stdout)["done"] == 5
        if again:
            gateway.stop()
            gateway.start()
        (tmp_path / "open").touch()
        taken = tmp_path / "taken"
        eventually(lambda: taken.exists() and len(taken.read_text().splitlines()) == 5)
        assert taken.read_text().split() == [f"other-{number}" for number in range(1, 10, 2)]
        eventually(lambda: "retrying" not in gateway.cli("events", "--json").stdout)
    assert not [file for file in tmp_path.rglob("journal*") if UID.encode() in file.read_bytes()]


PASSING_ON = """
class Plugin:
    def on_event(self, event): ...
    def forget(self, selector):
        return "events that were sent cannot be called back; erase them there"
"""


@pytest.mark.parametrize("stopped", [False, True])
def test_a_plugin_that_has_passed_events_on_says_so(tmp_path: Path, stopped: bool) -> None:
    """The operator learns where to erase the rest, and the command has not failed."""
    with running(tmp_path, "[plugins.sender]\n", plugins={"sender": PASSING_ON}) as gateway:
        if stopped:
            gateway.stop()
        done = gateway.cli("forget", "--customer", UID, "--yes")
        assert done.returncode == 0
        sentence = "events that were sent cannot be called back; erase them there"
        assert f"sender: {sentence}\n" in done.stderr
        document = json.loads(gateway.cli("forget", "--customer", UID, "--json").stdout)
        assert document["passed_on"] == {"sender": sentence}
        assert document["plugins"] == {}


def test_values_in_the_cache_are_forgotten(tmp_path: Path) -> None:
    """The next request is answered by the provider again."""
    text = '[plugins.crm]\n[values]\ncache = "1h"\n'
    with running(tmp_path, text, plugins={"crm": COUNTING}) as gateway, gateway.client() as client:
        asked = [client.ask(["asked"], customer_uid=UID).document["asked"] for _ in range(2)]
        assert gateway.cli("forget", "--customer", UID).returncode == 0
        asked.append(client.ask(["asked"], customer_uid=UID).document["asked"])
    assert asked == ["1", "1", "2"]
