"""On a terminal: tables, colours unless NO_COLOR, questions before anything is changed, progress."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import pytest
from running import RunningGateway, eventually, on_a_terminal, running, write_config

from gateway.journal import open_reader
from gateway.journal.interface import Filter
from gateway.journal.search import EventRow
from gateway.simulate import body, encode

ESCAPE = "\x1b["
CLOSED = """
from gateway import Reject, hookimpl

class Plugin:
    @hookimpl
    def on_event(self, event):
        if not event.replayed:
            raise Reject("the shop is closed")
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """With 25 events, all dead letters of `shop`."""
    with running(tmp_path_factory.mktemp("gateway"), "[plugins.shop]\n", plugins={"shop": CLOSED}) as started:
        with started.client() as client:
            for _ in range(25):
                assert client.post(encode(body("payment") | {"queue": "\x9b31m"})).status == 200
        eventually(lambda: dead(started) == 25)
        yield started


def all_events(gateway: RunningGateway) -> list[EventRow]:
    with closing(open_reader(gateway.config)) as reader:
        return list(reader.events(Filter()))


def dead(gateway: RunningGateway) -> int:
    reader = open_reader(gateway.config)
    try:
        return reader.count_dead(Filter())
    finally:
        reader.close()


def run(gateway: RunningGateway, *arguments: str, **options: Any) -> tuple[int, str]:
    return on_a_terminal([*arguments, "-c", gateway.config_path], **options)


def test_events_are_a_table_of_the_newest_in_colour(gateway: RunningGateway) -> None:
    """Twenty of the 25, under a header with a line."""
    code, seen = run(gateway, "events")

    assert code == 0
    assert seen.count("payment") == 20
    assert "───" in seen
    assert f"{ESCAPE}1;31mdead shop" in seen


@pytest.mark.parametrize("columns", [60, 80, 100, 120, 200])
@pytest.mark.parametrize("command", [["events"], ["dead"], ["dead", "--hook", "payment"]])
def test_ids_and_reasons_stay_readable(gateway: RunningGateway, command: list[str], columns: int) -> None:
    """On terminals of any usual width: each id stands whole, every column is there, and no line is broken."""
    ids = [row.id for row in all_events(gateway)][-20 if command == ["events"] else 0 :]

    code, seen = run(gateway, *command, columns=columns)

    lines = click.unstyle(seen).splitlines()
    assert code == 0
    assert [word for line in lines for word in line.split() if word in ids] == ids
    assert max(map(len, lines)) <= columns
    for name in ("hook", "conversation", "id", *(("error", "attempts") if "dead" in command else ("state",))):
        assert any(name in line for line in lines[:2]), name
    if "dead" in command:
        assert "Reject at" in " ".join(click.unstyle(seen).split())


@pytest.mark.parametrize("columns", [80, 100, 140])
def test_plugins_are_wrapped_between_words(gateway: RunningGateway, columns: int) -> None:
    """Each name of a hook and of a setting stands whole."""
    code, seen = run(gateway, "plugins", columns=columns)
    _, listed = run(gateway, "plugins", "--json")
    words = {word.strip(",*") for word in click.unstyle(seen).split()}
    rows = [json.loads(line) for line in listed.splitlines()]
    assert code == 0
    assert {name for row in rows for name in (*row["hooks"], *row["settings"])} <= words


def test_no_color_is_respected(gateway: RunningGateway) -> None:
    """By tables and by single lines."""
    quiet = {"NO_COLOR": "1"}
    table = on_a_terminal(["events", "-c", gateway.config_path], environment=quiet)[1]
    line = on_a_terminal(["send", "payment", "--file", "/dev/null", "-c", gateway.config_path], environment=quiet)[1]

    assert f"{ESCAPE}1;31m" not in table
    assert line.startswith("400  ")
    assert f"{ESCAPE}31m400" in run(gateway, "send", "payment", "--file", "/dev/null")[1]


def test_what_a_body_holds_is_not_obeyed(gateway: RunningGateway) -> None:
    """Control characters of a body are not sent to the terminal."""
    seen = run(gateway, "events", "--show", "--limit", "1")[1]

    assert '"queue": "' in seen
    assert "\x9b" not in seen


def test_json_is_not_obeyed_and_stays_the_same(tmp_path: Path) -> None:
    """On a terminal `--json` escapes characters that control it or reorder its text; they mean the same to a reader of
    JSON. In a pipe they come as received."""
    active = "\x7f\x85\x9b31m\u061c\u200e\u200f\u2028\u2029\u202a\u202e\u2066\u2069"
    with running(tmp_path) as one:
        with one.client() as client:
            assert client.post(encode({"type": "payment", "note": active, active: 1})).status == 200
        seen = run(one, "events", "--json")[1]
        piped = one.cli("events", "--json").stdout

    assert not set(active) - set("31m") & set(seen)
    document = json.loads(seen[seen.index("{") : seen.rindex("}") + 1])
    assert document["body"] == {"type": "payment", "note": active, active: 1}
    assert document == json.loads(piped)
    assert active in piped


def test_a_question_is_asked_before_many_are_changed(gateway: RunningGateway) -> None:
    """No, and nothing is changed."""
    code, seen = run(gateway, "dead", "discard", "--all", answer="n\n")

    assert code == 1
    assert "Give 25 dead letters up? [y/N]: " in seen
    assert "nothing was changed" in seen
    assert dead(gateway) == 25


def test_a_replay_of_many_asks_and_shows_its_progress(gateway: RunningGateway) -> None:
    """While it goes on; what is left on the screen is what was done."""
    code, seen = run(gateway, "replay", "--plugin", "shop", answer="y\n")

    assert code == 0
    assert "Deliver 25 events to shop again? [y/N]: " in seen
    assert "Delivering again" in seen
    assert seen.rstrip().endswith("25 of 25 delivered to shop again")


def test_a_token_is_not_waited_for_in_silence(gateway: RunningGateway) -> None:
    """Nothing is read from a terminal that was not asked to."""
    code, seen = run(gateway, "token", "verify")

    assert code == 2
    assert "give a token, or send one to standard input" in seen


def test_faults_of_the_config_are_a_table(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where, and what."""
    config = write_config(tmp_path_factory.mktemp("faulty"), "[plugins.archive]\n")

    code, seen = on_a_terminal(["check", "--offline", "-c", config])

    assert code == 78
    assert f"{ESCAPE}1;31merror" in seen
    assert "plugins.archive.directory" in seen
