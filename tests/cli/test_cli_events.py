"""`gateway events`: lists, filters, shows and exports what was received."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from running import RunningGateway, eventually, on_a_terminal, running, write_config

from gateway.cli import cli, options
from gateway.cli.filters import moment
from gateway.journal import open_reader
from gateway.journal.interface import Filter
from gateway.simulate import body, conversation, encode

PICKY = """
from gateway import Reject, hookimpl

class Plugin:
    @hookimpl
    async def on_event(self, event):
        if event.hook == "message-send":
            raise Reject("not wanted")
        if event.hook == "payment":
            raise RuntimeError("not now")
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """It has received one event of each hook, one of an unknown type and one that is unreadable; `archive` has taken
    them all, `picky` has rejected one and holds its conversation back behind another."""
    text = '[plugins.archive]\ndirectory = "archive"\n[plugins.picky]\nbackoff = "1h"\nbackoff_max = "1h"\n'
    with running(tmp_path_factory.mktemp("gateway"), text, plugins={"picky": PICKY}) as started:
        with started.client() as client:
            for _, made in conversation(customer_uid="4711"):
                assert client.post(encode(made | {"conversationId": "97847"})).status == 200
            assert client.post(b'{"type": "somethingNew",\n "conversationId": 5}').status == 200
            assert (
                client.post(b'{"type": "inboundMessage", "conversationId": {"not": "a text"}, "v": 12.50}').status
                == 200
            )
        with closing(open_reader(started.config)) as reader:
            eventually(lambda: reader.count(Filter(state="dead", plugin="picky")) == 1)
            eventually(lambda: reader.count(Filter(state="delivered", plugin="archive")) == 10)
        yield started


def run(gateway: RunningGateway, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["events", *arguments, "-c", str(gateway.config_path)])


def listed(gateway: RunningGateway, *arguments: str) -> list[dict[str, Any]]:
    result = run(gateway, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def hooks(gateway: RunningGateway, *arguments: str) -> list[str]:
    return [row["hook"] for row in listed(gateway, *arguments)]


def test_a_retrying_event_tells_attempt_reason_and_next_try(gateway: RunningGateway) -> None:
    """In `--json` and in `--show`; a dead letter tells its last attempt and when that was."""
    with closing(open_reader(gateway.config)) as reader:
        eventually(lambda: reader.count(Filter(state="retrying", plugin="picky")) >= 1)
    [row] = listed(gateway, "--state", "retrying", "--limit", "1")
    [failed] = row["attempts"]["picky"]
    due = datetime.fromisoformat(row["next_try"]["picky"])
    assert list(failed) == ["at", "attempt", "error", "ms"]
    assert failed["attempt"] == 1
    assert failed["ms"] >= 0
    assert datetime.fromisoformat(row["received_at"]) <= datetime.fromisoformat(failed["at"]) <= datetime.now(UTC)
    assert re.fullmatch(r"RuntimeError at \w+\.py:10: not now", failed["error"])
    assert due <= datetime.now(UTC) + timedelta(hours=1)
    shown = run(gateway, row["id"], "--show").stdout
    assert re.search(
        r"^picky +attempt 1 failed at [\d: -]+ UTC after \d+ ms: RuntimeError at \w+\.py:10: not now;"
        r" next try [\d: -]+ UTC$",
        shown,
        re.M,
    )

    [dead] = listed(gateway, "--state", "dead", "--plugin", "picky")
    [last] = dead["attempts"]["picky"]
    assert last["attempt"] == 1
    assert datetime.fromisoformat(last["at"]) <= datetime.now(UTC)
    assert dead["next_try"] == {}
    [archived] = listed(gateway, "--hook", "set-status")
    assert archived["next_try"] == {}


FLAKY = """
from gateway import hookimpl

class Plugin:
    @hookimpl
    async def on_payment(self, event, payload):
        if event.attempt < 3:
            raise RuntimeError("not now")
"""


def test_failures_and_recovery_are_told_and_what_went_well_costs_nothing(tmp_path: Path) -> None:
    """Each failed attempt and the one that succeeded after them; for the others, the times around their delivery."""
    text = '[plugins.archive]\ndirectory = "archive"\n[plugins.flaky]\nbackoff = "1ms"\nbackoff_max = "2ms"\n'
    with running(tmp_path, text, plugins={"flaky": FLAKY}) as started:
        with started.client() as client:
            received = client.post(encode(body("payment"))).document["id"]
            client.post(encode(body("set-status")))
        with closing(open_reader(started.config)) as reader:
            eventually(lambda: reader.count(Filter(state="delivered")) == 2)
        eventually(lambda: "archive" in listed(started, received, "--show")[0]["delivered_between"])
        [row] = listed(started, received, "--show")
        shown = run(started, received, "--show").stdout
        [other] = listed(started, "--hook", "set-status", "--show")
    told = row["attempts"]["flaky"]
    assert [(one["attempt"], one["error"] and one["error"].partition(" at ")[0]) for one in told] == [
        (1, "RuntimeError"),
        (2, "RuntimeError"),
        (3, None),
    ]
    assert sorted(one["at"] for one in told) == [one["at"] for one in told]
    assert all(0 <= one["ms"] < 5000 for one in told)
    assert list(row["attempts"]) == ["flaky"]
    assert list(row["delivered_between"]) == ["archive"]
    assert row["received_at"] <= row["delivered_between"]["archive"][0] <= row["delivered_between"]["archive"][1]
    assert other["attempts"] == {}
    assert re.search(r"^archive +delivered between [\d: -]+ and [\d: -]+ UTC$", shown, re.M)
    assert re.search(r"^flaky +attempt 3 succeeded at [\d: -]+ UTC after \d+ ms$", shown, re.M)


def test_json_is_a_line_per_event_of_the_promised_shape(gateway: RunningGateway) -> None:
    """With exactly the documented keys, and the body as it was received."""
    [row] = listed(gateway, "--hook", "payment")

    assert list(row) == [
        *("id", "received_at", "organisation", "hook", "conversation_id", "customer_uid", "readable", "conflict"),
        *("name", "state", "deliveries", "attempts", "next_try", "body"),
    ]
    assert (row["organisation"], row["hook"], row["conversation_id"]) == ("acme", "payment", "97847")
    assert (row["customer_uid"], row["readable"], row["conflict"]) == ("4711", True, False)
    assert row["deliveries"]["archive"] == "delivered"
    assert datetime.fromisoformat(row["received_at"]).tzinfo is not None
    assert row["body"]["amount"] == "120.50"


def test_a_body_stands_on_one_line_with_its_digits(gateway: RunningGateway) -> None:
    """What JSON readers would round or reorder is left alone."""
    assert (
        '"body":{"type": "somethingNew",  "conversationId": 5}}\n' in run(gateway, "--hook", "unknown", "--json").stdout
    )
    assert '"v": 12.50}}\n' in run(gateway, "--json").stdout


def test_events_come_oldest_first(gateway: RunningGateway) -> None:
    """All of them, in the order of receipt."""
    times = [row["received_at"] for row in listed(gateway)]

    assert len(times) == 10
    assert times == sorted(times)


def test_limit_gives_the_newest_still_oldest_first(gateway: RunningGateway) -> None:
    """As `tail` would."""
    assert listed(gateway, "--limit", "3") == listed(gateway)[-3:]


def test_filters_narrow_and_all_must_hold(gateway: RunningGateway) -> None:
    """By hook in any spelling, conversation, organisation and id."""
    everything = listed(gateway)
    some_id = everything[3]["id"]

    assert hooks(gateway, "--hook", "setStatus") == ["set-status"]
    assert hooks(gateway, "--hook", "unknown") == ["unknown"]
    assert len(listed(gateway, "--conversation", "97847")) == 8
    assert len(listed(gateway, "--organisation", "acme")) == 10
    assert [row["id"] for row in listed(gateway, "--id", some_id)] == [some_id]
    assert [row["id"] for row in listed(gateway, some_id)] == [some_id]
    assert listed(gateway, "--id", some_id, "--hook", "inbound-message") == []


def test_states_say_how_far_delivery_is(gateway: RunningGateway) -> None:
    """Of any plugin, or of the one named."""
    assert hooks(gateway, "--state", "dead") == ["message-send"]
    assert hooks(gateway, "--state", "retrying", "--plugin", "picky") == ["payment"]
    assert hooks(gateway, "--state", "dead", "--plugin", "archive") == []
    assert len(listed(gateway, "--state", "delivered", "--plugin", "archive")) == 10
    assert listed(gateway, "--hook", "payment")[0]["deliveries"] == {"archive": "delivered", "picky": "retrying"}


def test_events_held_behind_a_retry_are_waiting(gateway: RunningGateway) -> None:
    """The later ones of that conversation, for that plugin only."""
    waiting = hooks(gateway, "--state", "waiting", "--plugin", "picky")

    assert "conversation-closed" in waiting
    assert "unknown" not in waiting


def test_since_and_until_take_times_and_durations(gateway: RunningGateway) -> None:
    """From then on, and before then."""
    third = listed(gateway)[2]["received_at"]

    assert len(listed(gateway, "--since", third)) == 8
    assert len(listed(gateway, "--until", third)) == 2
    assert len(listed(gateway, "--since", "5m")) == 10
    assert listed(gateway, "--until", "yesterday") == []


def test_in_a_pipe_everything_is_a_plain_table_without_bodies(gateway: RunningGateway) -> None:
    """A header and a line each; nothing that a customer wrote."""
    output = run(gateway).stdout
    header, *lines = output.splitlines()

    assert header.split() == ["received", "(UTC)", "hook", "conversation", "state", "id"]
    assert len(lines) == 10
    assert all(line.index(" 97847") == header.index("conversation") - 1 for line in lines[:8])
    assert "No I don't" not in output
    assert "\x1b" not in output


def test_a_long_cell_does_not_widen_the_table(tmp_path_factory: pytest.TempPathFactory) -> None:
    """It is shortened in a pipe and on a terminal; the id never is, and neither is JSON."""
    long = "9" * 100_000
    with running(tmp_path_factory.mktemp("long")) as gateway:
        with gateway.client() as client:
            answer = client.post(encode(body("payment") | {"conversationId": long}))
        shown = run(gateway).stdout
        seen = on_a_terminal(["events", "-c", gateway.config_path], columns=200)[1]

        assert all(len(line) < 150 for line in shown.splitlines())
        for table in (shown, seen):
            assert f" {'9' * 59}… " in table
            assert answer.document["id"] in table
        assert listed(gateway)[0]["conversation_id"] == long


def test_the_state_names_who_is_behind(gateway: RunningGateway) -> None:
    """And says what is odd about an event."""
    output = run(gateway).stdout

    assert "  retrying picky  " in output
    assert "  dead picky  " in output
    assert "delivered (unreadable)" in output


def test_on_a_terminal_the_newest_are_shown(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty, so that the newest stay on the screen; JSON is never cut."""
    monkeypatch.setattr(options, "on_terminal", lambda: True)
    monkeypatch.setattr(options, "_ON_A_TERMINAL", 4)

    assert len(run(gateway).stdout.splitlines()) == 1 + 4
    assert len(run(gateway, "--limit", "6").stdout.splitlines()) == 1 + 6
    assert len(listed(gateway)) == 10


def test_show_shows_an_event_with_its_body(gateway: RunningGateway) -> None:
    """Each field on a line of its own, then the body."""
    output = run(gateway, "--hook", "inbound-message", "--conversation", "97847", "--show").stdout

    assert "hook             inbound-message\n" in output
    assert "customer_uid     4711\n" in output
    assert '"body": "No I don\'t"' in output


@pytest.mark.parametrize("options", [[], ["--show"]])
def test_nothing_found_is_said_and_no_failure(gateway: RunningGateway, options: list[str]) -> None:
    """On standard error, so that a pipe gets nothing."""
    result = run(gateway, "--conversation", "1", *options)

    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no event matches\n")


def test_without_a_journal_it_says_so(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Exit 1, and which command makes one."""
    config = write_config(tmp_path_factory.mktemp("none"))

    result = CliRunner().invoke(cli, ["events", "-c", str(config)])

    assert result.exit_code == 1
    assert result.stderr.startswith("there is no journal at ")


def test_a_journal_that_may_not_be_read_says_so(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite itself would only say that it cannot."""
    config = write_config(tmp_path_factory.mktemp("closed"), '[journal]\npath = "closed.db"\n')
    journal = config.with_name("closed.db")
    journal.mkdir()  # what not even root can open
    monkeypatch.setattr(os, "access", lambda *_: False)

    result = CliRunner().invoke(cli, ["events", "-c", str(config)])

    assert result.exit_code == 1
    assert result.stderr == f"the journal {journal} cannot be read: permission denied\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--hook", "pavement"], 'unknown hook "pavement"; did you mean "payment"?'),
        (["--hook", "foo"], "move-to-queue, conversation-assignment, unknown\n"),
        (["--since", "soonish"], "expected a time such as 2026-01-31, "),
        (["--since", "1h", "--until", "2h"], "--since is not before --until, so nothing can match"),
        (["--plugin", "archive"], "--plugin needs --state: the state of an event is a plugin's"),
        (["--state", "lost"], "'lost' is not one of 'delivered', 'waiting', 'retrying', 'dead'"),
    ],
)
def test_what_cannot_be_meant_is_wrong_usage(gateway: RunningGateway, arguments: list[str], sentence: str) -> None:
    """Exit 2, and what would be right."""
    result = run(gateway, *arguments)

    assert result.exit_code == 2
    assert sentence in result.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T09:30", datetime(2026, 1, 31, 9, 30, tzinfo=UTC)),
        ("2026-01-31 09:30:15.5", datetime(2026, 1, 31, 9, 30, 15, 500000, tzinfo=UTC)),
        ("2026-01-31T09:30Z", datetime(2026, 1, 31, 9, 30, tzinfo=UTC)),
        ("2026-01-31T09:30+01:00", datetime(2026, 1, 31, 8, 30, tzinfo=UTC)),
    ],
)
def test_a_time_is_utc_unless_it_says(text: str, expected: datetime) -> None:
    """ISO 8601, with or without a time of day."""
    assert moment(text) == expected


@pytest.mark.parametrize(("text", "ago"), [("2h", 7200), ("1h30m", 5400), ("7d", 7 * 86400), ("now", 0)])
def test_a_duration_is_that_long_ago(text: str, ago: int) -> None:
    """Counted from now."""
    assert abs(datetime.now(UTC) - timedelta(seconds=ago) - moment(text)) < timedelta(seconds=5)


def test_today_begins_at_midnight() -> None:
    """UTC's, and yesterday's a day before."""
    assert moment("today").time() == datetime.min.time()
    assert moment("today") - moment("yesterday") == timedelta(days=1)


@pytest.mark.parametrize("text", ["", "2026-13-01", "99999999999d", "0001-01-01T00:00+14:00", "tomorrow"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """Also those that no calendar has."""
    with pytest.raises(click.BadParameter, match="expected a time such as"):
        moment(text)


def test_events_can_be_listed_when_the_gateway_is_down(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The journal is enough."""
    with running(tmp_path_factory.mktemp("down")) as gateway:
        with gateway.client() as client:
            client.post(encode(body("payment")))
        gateway.stop()

        assert hooks(gateway) == ["payment"]
