"""`gateway dead` and `gateway replay`: what an operator does after a plugin was broken."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from running import RunningGateway, eventually, running, write_config

from gateway.cli import changes, cli
from gateway.journal import open_reader
from gateway.journal.interface import Filter
from gateway.journal.lock import JournalLock
from gateway.plugin_host.place import without_message
from gateway.simulate import body, encode

# Takes events while the file `open` is there, and writes down which it took.
SHOP = """
from pathlib import Path
from gateway import Reject, hookimpl

class Plugin:
    @hookimpl
    def startup(self, context):
        self.directory = Path(context.directory)

    @hookimpl
    def on_event(self, event):
        if not (self.directory / "open").exists():
            raise Reject("the shop is closed")
        with (self.directory / "taken").open("a") as taken:
            taken.write(f"{event.id} {event.replayed}\\n")
"""


@contextmanager
def closed_shop(directory: Path, text: str = "") -> Iterator[RunningGateway]:
    """The plugin `shop` has rejected two payments and a message."""
    with running(directory, f"[plugins.shop]\n{text}", plugins={"shop": SHOP}) as started:
        with started.client() as client:
            for hook in ("payment", "payment", "inbound-message"):
                assert client.post(encode(body(hook))).status == 200
        eventually(lambda: dead(started) == 3)
        yield started


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[RunningGateway]:
    with closed_shop(tmp_path) as started:
        yield started


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """One for all the tests that change nothing, with a plugin that takes no events."""
    text = '[plugins.static_values.values]\nrate = "1"\n'
    with closed_shop(tmp_path_factory.mktemp("untouched"), text) as started:
        yield started


def dead(gateway: RunningGateway) -> int:
    with closing(open_reader(gateway.config)) as reader:
        return reader.count_dead(Filter())


def taken(gateway: RunningGateway) -> list[str]:
    """What the shop took, as `id replayed`, in order."""
    file = gateway.directory / "taken"
    return file.read_text().splitlines() if file.exists() else []


def open_shop(gateway: RunningGateway) -> None:
    (gateway.directory / "open").touch()


def run(gateway: RunningGateway, *arguments: str, input: str | None = None) -> Result:
    return CliRunner().invoke(cli, [*arguments, "-c", str(gateway.config_path)], input=input)


def counted(gateway: RunningGateway, *arguments: str) -> tuple[int, int]:
    result = run(gateway, *arguments, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document.keys() == {"matched", "done"}
    return document["matched"], document["done"]


def letters(gateway: RunningGateway, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(gateway, "dead", *arguments, "--json").stdout.splitlines()]


def test_dead_lists_a_line_per_letter_of_the_promised_shape(untouched: RunningGateway) -> None:
    """The plugin that failed, after how many attempts, and why; filters narrow the list."""
    found = letters(untouched)

    assert list(found[0]) == ["id", "plugin", "hook", "conversation_id", "attempts", "error", "dead_since"]
    assert [letter["hook"] for letter in found] == ["payment", "payment", "inbound-message"]
    assert {letter["plugin"] for letter in found} == {"shop"}
    assert "the shop is closed" in found[0]["error"]
    assert len(letters(untouched, "--hook", "payment")) == 2

    table = run(untouched, "dead").stdout.splitlines()
    assert table[0].split()[:5] == ["dead", "since", "(UTC)", "plugin", "hook"]
    assert len(table) == 4
    assert all(re.search(r"  Reject at \w+\.py:\d+$", line) for line in table[1:])
    assert run(untouched, "dead", "--conversation", "1").stderr == "no dead letter matches\n"


def test_the_table_has_messages_only_where_the_log_may_have_them(untouched: RunningGateway, tmp_path: Path) -> None:
    """With `[log] plugin_messages = true`."""
    config = untouched.directory / "messages.toml"
    config.write_text(untouched.config_path.read_text() + "\n[log]\nplugin_messages = true\n")
    table = CliRunner().invoke(cli, ["dead", "-c", str(config)]).stdout.splitlines()
    assert all(line.endswith(": the shop is closed") for line in table[1:])
    assert len(table) == 4


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        ("ValueError at crm.py:88: no account 12: none", "ValueError at crm.py:88"),
        ("ValueError: odd", "ValueError"),
        ("OSError", "OSError"),
        ("CallTimeout: exceeded its 30 s", "CallTimeout: exceeded its 30 s"),
        ("the process died 2 times while this plugin had the event", None),
    ],
)
def test_a_message_is_taken_off_an_error(error: str, shown: str | None) -> None:
    """Those of the gateway's own errors stay: they tell nothing of an event."""
    assert without_message(error) == (shown or error)


def test_show_has_the_last_failure_with_its_place_and_time(untouched: RunningGateway) -> None:
    """And with its message."""
    result = CliRunner().invoke(cli, ["dead", "--show", "-c", str(untouched.config_path)])

    failures = [line for line in result.stdout.splitlines() if line.startswith("last failure ")]
    pattern = (
        r"last failure +attempt 1, at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC: Reject at \w+\.py:\d+: the shop is closed"
    )
    assert len(failures) == 3
    assert all(re.fullmatch(pattern, line) for line in failures)


def test_retry_by_id_and_by_filter(gateway: RunningGateway) -> None:
    """What is meant is delivered; the others stay."""
    open_shop(gateway)
    [_, second, message] = letters(gateway)

    assert counted(gateway, "dead", "retry", message["id"]) == (1, 1)
    eventually(lambda: taken(gateway) == [f"{message['id']} False"])
    assert counted(gateway, "dead", "retry", "--id", second["id"], "--hook", "payment") == (1, 1)
    eventually(lambda: len(taken(gateway)) == 2)
    assert run(gateway, "dead", "retry", "--all").stdout == "1 of 1 will be delivered again now\n"
    eventually(lambda: len(taken(gateway)) == 3)
    assert dead(gateway) == 0
    assert run(gateway, "dead").stderr == "there are no dead letters\n"


def test_discard_gives_them_up(gateway: RunningGateway) -> None:
    """They are not dead letters any more and are not delivered; the events stay in the journal."""
    assert run(gateway, "dead", "discard", "--hook", "payment").stdout == "2 of 2 discarded\n"
    assert [letter["hook"] for letter in letters(gateway)] == ["inbound-message"]
    assert len(run(gateway, "events", "--json").stdout.splitlines()) == 3


@pytest.mark.parametrize("command", [["dead", "retry", "--all"], ["dead", "discard", "--all"]])
def test_a_dry_run_only_counts(untouched: RunningGateway, command: list[str]) -> None:
    """`done` is 0, and nothing has changed."""
    assert counted(untouched, *command, "--dry-run") == (3, 0)
    assert "3 would be " in run(untouched, *command, "--dry-run").stdout
    assert dead(untouched) == 3


@pytest.mark.parametrize("command", ["retry", "discard"])
def test_a_change_needs_a_filter_or_all(untouched: RunningGateway, command: str) -> None:
    """Without ids, a filter or --all: exit 2."""
    result = run(untouched, "dead", command)

    assert result.exit_code == 2
    assert "name ids or a filter, or give --all for every dead letter" in result.stderr
    assert dead(untouched) == 3


def test_a_filter_before_the_word_is_refused(untouched: RunningGateway) -> None:
    """Exit 2: the options before the word would not apply to what follows it."""
    result = run(untouched, "dead", "--hook", "payment", "discard", "--all")

    assert result.exit_code == 2
    assert "write options after `discard`, not before it" in result.stderr
    assert dead(untouched) == 3


def test_an_id_that_is_no_dead_letter_is_said(untouched: RunningGateway) -> None:
    """Nothing matched, nothing done."""
    assert run(untouched, "dead", "retry", "nobody").stderr == "no dead letter matches\n"
    assert counted(untouched, "dead", "retry", "nobody") == (0, 0)


def test_on_a_terminal_one_is_asked_first(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the number; no is a failure that changed nothing, and --yes is not asked."""
    monkeypatch.setattr(changes, "on_terminal", lambda: True)

    refused = run(gateway, "dead", "discard", "--hook", "payment", input="n\n")
    assert refused.exit_code == 1
    assert "Give 2 dead letters up? [y/N]: n\n" in refused.stderr
    assert refused.stderr.endswith("nothing was changed\n")
    assert dead(gateway) == 3

    assert run(gateway, "dead", "discard", "--hook", "payment", input="y\n").exit_code == 0
    assert dead(gateway) == 1
    assert run(gateway, "dead", "discard", "--all", "--yes").exit_code == 0
    assert dead(gateway) == 0


def test_replay_delivers_a_range_again_and_says_so(gateway: RunningGateway) -> None:
    """The same ids, marked as replayed, those of the filter only."""
    open_shop(gateway)
    [first, second, _] = letters(gateway)
    counted(gateway, "dead", "discard", "--all")

    assert counted(gateway, "replay", "--plugin", "shop", "--hook", "payment", "--dry-run") == (2, 0)
    assert taken(gateway) == []
    assert counted(gateway, "replay", "--plugin", "shop", "--hook", "payment") == (2, 2)
    eventually(lambda: sorted(taken(gateway)) == sorted([f"{first['id']} True", f"{second['id']} True"]))


def test_replay_for_people(gateway: RunningGateway) -> None:
    """What was done, and to whom."""
    open_shop(gateway)

    assert run(gateway, "replay", "--plugin", "shop", "--dry-run").stdout == "3 would be delivered to shop again\n"
    assert run(gateway, "replay", "--plugin", "shop").stdout == "3 of 3 delivered to shop again\n"
    assert run(gateway, "replay", "--plugin", "shop", "--until", "yesterday").stderr == "no event matches\n"


def test_replay_needs_a_plugin_that_is_there(untouched: RunningGateway) -> None:
    """Wrong usage without one, or with an unknown one."""
    missing = run(untouched, "replay", "--hook", "payment")
    unknown = run(untouched, "replay", "--plugin", "shopp")

    assert missing.exit_code == 2
    assert "Missing option '--plugin'" in missing.stderr
    assert (unknown.exit_code, unknown.stdout) == (2, "")
    assert 'unknown plugin "shopp"; did you mean "shop"?' in unknown.stderr


def turn_shop_off(gateway: RunningGateway, how: str) -> None:
    """And another one, which takes events, on."""
    gateway.stop()
    gateway.config_path.write_text(
        gateway.config_path.read_text().replace("[plugins.shop]\n", how)
        + '[plugins.static_values.values]\nrate = "1"\n[plugins.archive]\ndirectory = "archive"\n'
    )


@pytest.mark.parametrize("how", ["", "[plugins.shop]\nenabled = false\n"])
def test_dead_letters_of_a_plugin_that_is_off_stay(gateway: RunningGateway, how: str) -> None:
    """They are not retried, because the plugin does not run; the answer says how many stay."""
    turn_shop_off(gateway, how)
    stays(gateway, "after the next start")
    gateway.start()
    stays(gateway, "now")
    assert run(gateway, "dead", "discard", "--plugin", "shop").stdout == "3 of 3 discarded\n"


def stays(gateway: RunningGateway, when: str) -> None:
    for command in (["dead", "retry", "--plugin", "shop"], ["replay", "--plugin", "shop"]):
        for arguments in (command, [*command, "--dry-run"]):
            refused = run(gateway, *arguments)
            assert refused.exit_code == 1
            assert (
                refused.stderr
                == "the plugin shop is not enabled, or takes no events; plugins that take events: archive\n"
            )
    left = "3 not: their plugins are off\n"
    assert run(gateway, "dead", "retry", "--all", "--dry-run").stdout == f"0 would be delivered again; {left}"
    assert run(gateway, "dead", "retry", "--all").stdout == f"0 of 3 will be delivered again {when}; {left}"
    assert counted(gateway, "dead", "retry", "--all") == (3, 0)
    assert dead(gateway) == 3


@pytest.mark.parametrize("command", [["dead", "retry"], ["replay"]], ids=" ".join)
@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_nothing_is_delivered_to_a_plugin_that_takes_no_events(
    untouched: RunningGateway, command: list[str], options: list[str]
) -> None:
    """Whether it is only counted or done; the list names those that take some."""
    refused = run(untouched, *command, "--plugin", "static_values", *options)

    assert refused.exit_code == 1
    message = "the plugin static_values is not enabled, or takes no events; plugins that take events: shop\n"
    assert refused.stderr == message


UNKNOWN = [
    *(["dead"], ["dead", "retry"], ["dead", "discard"], ["replay", "--plugin", "shop"]),
    *(["events"], ["values"]),
]


@pytest.mark.parametrize("command", UNKNOWN, ids=" ".join)
def test_an_unknown_organisation_is_wrong_usage(untouched: RunningGateway, command: list[str]) -> None:
    """Exit 2, instead of a filter that nothing matches."""
    close = run(untouched, *command, "--organisation", "acne")
    far = run(untouched, *command, "--organisation", "beta")

    assert (close.exit_code, far.exit_code) == (2, 2)
    assert 'unknown organisation "acne"; did you mean "acme"?' in close.stderr
    assert 'unknown organisation "beta"; known: acme' in far.stderr


@pytest.mark.parametrize("command", [["dead"], ["dead", "retry"], ["dead", "discard"], ["events", "--state", "dead"]])
def test_an_unknown_plugin_is_wrong_usage(untouched: RunningGateway, command: list[str]) -> None:
    """Exit 2, instead of a filter that nothing matches."""
    result = run(untouched, *command, "--plugin", "sjop")

    assert result.exit_code == 2
    assert 'unknown plugin "sjop"; did you mean "shop"?' in result.stderr


def test_a_name_that_only_the_journal_knows_is_accepted(gateway: RunningGateway) -> None:
    """Of an organisation or a plugin that the config had before."""
    turn_shop_off(gateway, "")
    text = gateway.config_path.read_text().replace("[organisations.acme]", "[organisations.other]")
    gateway.config_path.write_text(text)

    assert len(letters(gateway, "--plugin", "shop", "--organisation", "acme")) == 3


def test_all_of_it_works_without_a_running_gateway(gateway: RunningGateway) -> None:
    """Dead letters that are retried are delivered after the next start."""
    gateway.stop()
    [first, second, message] = letters(gateway)

    assert counted(gateway, "dead", "discard", message["id"]) == (1, 1)
    assert counted(gateway, "dead", "retry", first["id"]) == (1, 1)
    assert [letter["id"] for letter in letters(gateway)] == [second["id"]]
    open_shop(gateway)
    gateway.start()
    eventually(lambda: taken(gateway) == [f"{first['id']} False"])


def test_a_replay_without_a_running_gateway_begins_with_the_next_start(gateway: RunningGateway) -> None:
    """The command records the replay and says so; nothing is done yet, and it loads no plugin's code to run it."""
    open_shop(gateway)
    gateway.stop()

    shown = run(gateway, "replay", "--plugin", "shop")
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert shown.stdout == "3 of 3 will be delivered to shop again after the next start\n"
    assert counted(gateway, "replay", "--plugin", "shop", "--hook", "payment") == (2, 0)
    assert not taken(gateway)
    gateway.start()
    eventually(lambda: len(taken(gateway)) == 5)


# Fails the first event of a conversation while the file `open` is missing; takes slowly, so that others could overtake.
SLOW_SHOP = (
    SHOP.replace('raise Reject("the shop is closed")', 'raise Reject(f"closed for {event.id}")')
    .replace("        with (self.directory", "        time.sleep(0.05)\n        with (self.directory")
    .replace("from pathlib", "import time\nfrom pathlib", 1)
)


@pytest.mark.parametrize("runs", [True, False])
def test_dead_letters_are_retried_in_order(tmp_path: Path, runs: bool) -> None:
    """Those of a conversation one after another, and before its newer events, which wait for them."""
    with running(tmp_path, "[plugins.shop]\n", plugins={"shop": SLOW_SHOP}) as gateway, gateway.client() as client:

        def send(count: int) -> list[str]:
            answers = [client.post(encode(body("payment", conversation_id="97847"))) for _ in range(count)]
            return [f"{answer.document['id']} False" for answer in answers]

        sent = send(6)
        eventually(lambda: dead(gateway) == 6)
        if not runs:
            gateway.stop()
        open_shop(gateway)
        assert counted(gateway, "dead", "retry", "--all", "--in-order") == (6, 6)
        if not runs:
            gateway.start()
        sent += send(2)
        eventually(lambda: len(taken(gateway)) == 8)
        assert taken(gateway) == sent


REPAIRS = [["dead", "retry", "--all"], ["dead", "discard", "--all"], ["replay", "--plugin", "archive"]]


@pytest.mark.parametrize("command", [["dead"], *REPAIRS, *([*repair, "--dry-run"] for repair in REPAIRS)], ids=" ".join)
def test_without_a_journal_they_say_so(tmp_path: Path, command: list[str]) -> None:
    """Exit 1, one sentence with the command that makes one; nothing is made by looking."""
    config = write_config(tmp_path, '[plugins.archive]\ndirectory = "a"\n')
    before = sorted(tmp_path.rglob("*"))

    result = CliRunner().invoke(cli, [*command, "-c", str(config)])

    assert result.exit_code == 1
    assert result.output == f"there is no journal at {tmp_path / 'var/journal.db'} yet; `gateway run` makes it\n"
    assert sorted(tmp_path.rglob("*")) == before


def test_one_command_at_a_time_changes_a_journal(gateway: RunningGateway) -> None:
    """A second one says which is at work, and changes nothing."""
    gateway.stop()
    with JournalLock(gateway.config.journal.path, "`gateway replay`"):
        result = run(gateway, "dead", "discard", "--all", "--yes")
    assert result.exit_code == 1
    assert result.stderr == f"`gateway replay` with process id {os.getpid()} changes the journal; try again after it\n"
    assert dead(gateway) == 3
