"""`gateway timeline`: what happened to a customer or in a conversation, and what the bot was told."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from journal_kit import Clock
from running import write_config

from gateway import simulate
from gateway.cli import cli
from gateway.config.load import load_config
from gateway.journal import open_journal
from gateway.journal.search import ValueRecord

START = datetime(2026, 5, 1, 12, 0, tzinfo=UTC).timestamp()
SECOND = '[organisations.globex]\nsecrets = [{ file = "other.secret" }]\n'
PHONE = "447700900123"


def event(hook: str, organisation: str = "acme", **fields: Any) -> tuple[str, bytes]:
    return organisation, simulate.encode(simulate.body(hook) | {"outboundChannelAddress": PHONE} | fields)


def asked(organisation: str, customer_uid: str | None, outcome: str, status: int) -> ValueRecord:
    detail = {"outcome": outcome, "provider": "crm", "ms": 84.2}
    return ValueRecord(
        at=datetime.fromtimestamp(START, UTC),
        organisation=organisation,
        customer_uid=customer_uid,
        address="*********123",
        fields={"balance": detail},
        status=status,
    )


# a minute apart
STORY: list[tuple[str, bytes] | ValueRecord] = [
    asked("acme", "77", "value", 200),
    event("message-send", customerUID="77", conversationId="c1", body="Your balance\nis 120.50", statusCode="1"),
    event("delivery-report", customerUID="", conversationId="c1", communicationActionId="900", statusCode="0"),
    event("inbound-message", customerUID="77", conversationId="c1", body="I'll pay \x1b[2J"),
    event("payment", customerUID="77", conversationId="c1", amount=12.50, reference="", status="all fine"),
    asked("acme", "88", "value", 200),
    asked("acme", "77", "late", 504),
    event("set-status", customerUID="77", conversationId="c1", status="Paid"),
    event("message-send", customerUID="88", conversationId="c2", body="another's"),
    event("inbound-message", customerUID="77", conversationId="c3", body="a second conversation"),
    event("move-to-queue", customerUID="", conversationId="c4"),
    event("set-status", customerUID="77", conversationId="c4"),
    event("set-status", customerUID="88", conversationId="c4"),
    event("message-send", "globex", customerUID="77", conversationId="c1", body="of another organisation"),
    asked("globex", "77", "value", 200),
    event("conversation-closed", customerUID="77", conversationId="c1", closedBy="bot"),
    event("inbound-message", customerUID="77", conversationId={}, body="it does not fit"),
    ("acme", b'{"type": "something new", "customerUID": "77", "conversationId": "c5"}'),
]


def config_of(directory: Path, audit: bool = True) -> Path:
    path = write_config(directory, f"[values]\naudit = {str(audit).lower()}\n" + SECOND)
    (path.parent / "other.secret").write_text("another secret of thirty-two bytes or more")
    return path


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal with the story, without a running gateway."""
    path = config_of(tmp_path_factory.mktemp("timeline"))

    async def keep() -> None:
        clock = Clock(START)
        journal = open_journal(load_config(path), clock=clock)
        await journal.start()
        for what in STORY:
            if isinstance(what, ValueRecord):
                what.at = datetime.fromtimestamp(clock.now, UTC)
                journal.record_value_request(what)
            else:
                organisation, raw = what
                await journal.append(organisation, journal.decoder.decode(organisation, raw, None), raw)
            clock.advance(60)
        await journal.close()

    asyncio.run(keep())
    return path


def timeline(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["timeline", "-c", str(config), *arguments])


def listed(config: Path, *arguments: str) -> list[dict[str, Any]]:
    result = timeline(config, *arguments, "--json")
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def minutes(config: Path, *arguments: str) -> list[int]:
    """Which parts of the story a timeline has, in its order."""
    return [round(datetime.fromisoformat(line["at"]).timestamp() - START) // 60 for line in listed(config, *arguments)]


def test_a_line_per_event_and_per_request_of_the_promised_shape(config: Path) -> None:
    """Events with their body as received, requests with outcome, provider and milliseconds of each field."""
    value, first, *_ = listed(config, "--customer", "77", "--organisation", "acme")

    assert value == {
        "at": "2026-05-01T12:00:00Z",
        "kind": "value",
        "organisation": "acme",
        "conversation_id": None,
        "customer_uid": "77",
        "status": 200,
        "fields": {"balance": {"outcome": "value", "provider": "crm", "ms": 84.2}},
    }
    assert first.pop("id")
    assert first.pop("body")["body"] == "Your balance\nis 120.50"
    assert first == {
        "at": "2026-05-01T12:01:00Z",
        "kind": "event",
        "organisation": "acme",
        "conversation_id": "c1",
        "customer_uid": "77",
        "hook": "message-send",
        "name": None,
        "readable": True,
    }


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--customer", "77"], [0, 1, 2, 3, 4, 6, 7, 9, 11, 13, 14, 15, 16, 17]),
        (["--customer", "77", "--organisation", "globex"], [13, 14]),
        (["--customer", "88"], [5, 8, 12]),
        (["--customer", "77", "--since", "2026-05-01T12:06", "--until", "2026-05-01T12:10"], [6, 7, 9]),
        (["--conversation", "c1", "--organisation", "acme"], [0, 1, 2, 3, 4, 6, 7, 15]),
        (["--conversation", "c1"], [0, 1, 2, 3, 4, 6, 7, 13, 14, 15]),
        (["--conversation", "c1", "--until", "2026-05-01T12:02"], [0, 1]),
        (["--conversation", "c2"], [5, 8]),
        (["--conversation", "c4"], [0, 5, 6, 10, 11, 12]),
        (["--conversation", "nothing"], []),
        (["--customer", ""], []),
    ],
)
def test_what_belongs_to_a_customer_and_to_a_conversation(
    config: Path, arguments: list[str], expected: list[int]
) -> None:
    """A customer's: also what names no customer, in a conversation with this customer alone. A conversation's: also
    the requests about its customers."""
    assert minutes(config, *arguments) == expected


def test_a_request_far_from_the_conversation_is_not_of_it(tmp_path: Path) -> None:
    """An hour before its first event is the limit, and an hour after its last."""
    path = config_of(tmp_path)

    async def keep() -> None:
        clock = Clock(START)
        journal = open_journal(load_config(path), clock=clock)
        await journal.start()
        for minute in (-61, -59, 59, 61):
            record = asked("acme", "77", "value", 200)
            record.at = datetime.fromtimestamp(START + minute * 60, UTC)
            journal.record_value_request(record)
        organisation, raw = event("set-status", customerUID="77", conversationId="c1")
        await journal.append(organisation, journal.decoder.decode(organisation, raw, None), raw)
        await journal.close()

    asyncio.run(keep())
    assert minutes(path, "--conversation", "c1") == [-59, 0, 59]
    assert minutes(path, "--customer", "77") == [-61, -59, 0, 59, 61]


def test_sentences(config: Path) -> None:
    """A line a thing, in words, with texts on one line and nothing that controls a terminal."""
    result = timeline(config, "--customer", "77", "--organisation", "acme")
    assert result.exit_code == 0, result.output
    columns, *lines = result.stdout.splitlines()
    assert columns.split() == ["at", "(UTC)", "organisation", "conversation", "what", "happened"]
    told = [line.split(maxsplit=4)[4] for line in lines]
    assert lines[0].startswith("2026-05-01 12:00:00  acme          -")
    assert told == [
        "the bot asked for balance: crm answered in 84 ms",
        'the customer was sent: "Your balance is 120.50"',
        "delivery report of message 900: delivered",
        'the customer wrote: "I\'ll pay \N{REPLACEMENT CHARACTER}[2J"',
        'a payment came in: amount 12.5, currency EUR, status "all fine"',
        "the bot asked for balance: crm had not answered after 84 ms, which was too late"
        "; the bot got no values (status 504)",
        "the conversation got a status: status Paid",
        'the customer wrote: "a second conversation"',
        'the conversation got a status: status "Promise to pay"',
        "the conversation was closed: closedBy bot",
        'the customer wrote: "it does not fit" (the body does not fit its hook)',
        "an event came in by the name something new, which no hook has",
    ]


def test_nothing_is_said_in_a_sentence(config: Path) -> None:
    """Exit 0, and nothing on standard output."""
    result = timeline(config, "--customer", "nobody")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "the journal has nothing that matches\n"


def test_records_that_are_off_are_told(tmp_path: Path) -> None:
    """A timeline without requests does not look as if there were none."""
    path = config_of(tmp_path, audit=False)

    async def make() -> None:
        journal = open_journal(load_config(path))
        await journal.start()
        await journal.close()

    asyncio.run(make())
    result = timeline(path, "--customer", "77")
    assert "[values] audit is off, so custom value requests are not recorded\n" in result.stderr


@pytest.mark.parametrize("arguments", [[], ["--customer", "7", "--conversation", "7"]])
def test_one_subject(config: Path, arguments: list[str]) -> None:
    """Either a customer or a conversation: anything else is wrong usage."""
    result = timeline(config, *arguments)
    assert result.exit_code == 2
    assert "name either a customer with --customer or a conversation with --conversation" in result.output
