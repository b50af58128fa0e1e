"""The commands of operators on a journal in PostgreSQL: beside a gateway on this machine or on another, and without
one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cli_process import run_cli
from running import RunningGateway, eventually, running, write_config
from schemas import Schema

from gateway.config.load import load_config
from gateway.journal import open_reader
from gateway.journal.interface import Filter
from gateway.simulate import body, encode

# Takes events while the file `open` is there, and writes down which it took; has a record of everyone.
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

    @hookimpl
    def forget(self, selector):
        return 1
"""
CUSTOMER = "uid-4711"


class Elsewhere:
    """A machine without a gateway, which reaches the same database."""

    def __init__(self, gateway: RunningGateway, directory: Path) -> None:
        self.gateway = gateway
        table = f'[journal]\nurl = "{gateway.config.journal.url}"\n[plugins.shop]\n'
        self.config_path = write_config(directory, table)

    def run(self, *arguments: str) -> str:
        """What a command prints; it must exit 0."""
        done = self.gateway.cli_with(self.config_path, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def counted(self, *arguments: str) -> tuple[int, int]:
        document = json.loads(self.run(*arguments, "--json"))
        return document["matched"], document["done"]

    def lines(self, *arguments: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.run(*arguments, "--json").splitlines()]


@pytest.fixture
def schema() -> Iterator[Schema]:
    made = Schema()
    yield made
    made.drop()


@pytest.fixture
def gateway(tmp_path: Path, schema: Schema) -> Iterator[RunningGateway]:
    """The plugin `shop` has rejected two payments and a message."""
    text = f'[journal]\nurl = "{schema.url}"\n[plugins.shop]\n'
    with running(tmp_path / "here", text, plugins={"shop": SHOP}) as started:
        with started.client() as client:
            for hook in ("payment", "payment", "inbound-message"):
                assert client.post(encode(body(hook, customer_uid=CUSTOMER))).status == 200
        eventually(lambda: dead(started) == 3)
        yield started


@pytest.fixture
def elsewhere(gateway: RunningGateway, tmp_path: Path) -> Elsewhere:
    return Elsewhere(gateway, tmp_path / "there")


def dead(gateway: RunningGateway) -> int:
    with closing(open_reader(load_config(gateway.config_path))) as reader:
        return reader.count_dead(Filter())


def taken(gateway: RunningGateway) -> list[str]:
    file = gateway.directory / "taken"
    return file.read_text().splitlines() if file.exists() else []


def open_shop(gateway: RunningGateway) -> None:
    (gateway.directory / "open").touch()


def test_beside_the_gateway_on_this_machine(gateway: RunningGateway) -> None:
    """It is asked over its admin listener, as with a journal in a file."""
    open_shop(gateway)
    assert len(gateway.cli("events", "--json").stdout.splitlines()) == 3
    assert gateway.cli("dead", "retry", "--hook", "payment").stdout == "2 of 2 will be delivered again now\n"
    eventually(lambda: len(taken(gateway)) == 2)
    assert gateway.cli("dead", "discard", "--all").stdout == "1 of 1 discarded\n"
    assert gateway.cli("replay", "--plugin", "shop").stdout == "3 of 3 delivered to shop again\n"
    kinds = [json.loads(line)["kind"] for line in gateway.cli("operations", "--json").stdout.splitlines()]
    assert kinds == ["replay", "discard", "retry"]
    assert "operation 1 (retry) is finished" in gateway.cli("operations", "cancel", "1").stdout


def test_from_a_machine_without_a_gateway(gateway: RunningGateway, elsewhere: Elsewhere) -> None:
    """The gateway that runs elsewhere carries it out, and the command waits for it."""
    open_shop(gateway)
    assert len(elsewhere.lines("events")) == 3
    assert [letter["plugin"] for letter in elsewhere.lines("dead")] == ["shop"] * 3
    assert elsewhere.counted("dead", "retry", "--hook", "payment", "--dry-run") == (2, 0)
    assert elsewhere.counted("dead", "retry", "--hook", "payment") == (2, 2)
    eventually(lambda: len(taken(gateway)) == 2)
    assert elsewhere.counted("dead", "discard", "--all") == (1, 1)
    assert elsewhere.counted("replay", "--plugin", "shop") == (3, 3)
    assert len(taken(gateway)) == 5
    assert elsewhere.lines("values") == []
    [erased] = elsewhere.lines("forget", "--customer", CUSTOMER, "--yes")
    assert (erased["matched"], erased["done"], erased["plugins"]) == (3, 3, {"shop": 1})
    assert elsewhere.lines("events") == []
    assert [line["state"] for line in elsewhere.lines("operations")] == ["finished"] * 4


def test_what_was_cancelled_does_not_begin_with_the_next_start(gateway: RunningGateway, elsewhere: Elsewhere) -> None:
    """A replay, and a retry, whose events are dead letters again."""
    gateway.stop()
    assert elsewhere.counted("replay", "--plugin", "shop") == (3, 0)
    assert elsewhere.counted("dead", "retry", "--all") == (3, 3)
    for number, kind in enumerate(("replay", "retry"), 1):
        [line] = elsewhere.lines("operations", "cancel", str(number))
        assert (line["kind"], line["state"], line["done"], line["left"]) == (kind, "cancelled", 0, 0)
    open_shop(gateway)
    gateway.start()
    assert dead(gateway) == 3
    assert elsewhere.counted("dead", "retry", "--hook", "payment") == (2, 2)
    eventually(lambda: len(taken(gateway)) == 2)
    assert dead(gateway) == 1


def test_without_a_running_gateway(gateway: RunningGateway, elsewhere: Elsewhere) -> None:
    """The command makes the changes itself; deliveries begin with the next start."""
    gateway.stop()
    open_shop(gateway)
    assert elsewhere.counted("dead", "discard", "--hook", "inbound-message") == (1, 1)
    assert "2 of 2 will be delivered again after the next start" in elsewhere.run("dead", "retry", "--all")
    assert elsewhere.run("replay", "--plugin", "shop", "--hook", "inbound-message").startswith("1 of 1 will be")
    gateway.start()
    eventually(lambda: len(taken(gateway)) == 3)
    gateway.stop()
    [erased] = elsewhere.lines("forget", "--customer", CUSTOMER, "--yes")
    assert (erased["done"], erased["plugins"]) == (3, {"shop": 1})
    assert elsewhere.lines("events") == []


def test_a_change_makes_no_journal(tmp_path: Path, schema: Schema) -> None:
    """In an empty database there is nothing to change."""
    path = write_config(tmp_path, f'[journal]\nurl = "{schema.url}"\n')
    done = run_cli(["dead", "discard", "--all", "-c", str(path)])
    assert done.returncode == 1
    assert "there is no journal in the database of journal.url yet; `gateway run` makes it" in done.stderr


@pytest.mark.parametrize(
    ("command", "instead"),
    [
        (["backup", "copy.db"], "copy it with `pg_dump`, or with the backups of the database itself"),
        (["restore", "copy.db"], "restore the database from its own backup, then run `gateway journal adopt`"),
        (["journal", "check"], "PostgreSQL looks for damage itself, with `pg_amcheck`"),
        (["journal", "check", "--repair"], "PostgreSQL looks for damage itself, with `pg_amcheck`"),
    ],
)
def test_what_is_for_a_file_says_what_to_use_instead(
    tmp_path: Path, schema: Schema, command: list[str], instead: str
) -> None:
    """One sentence, exit 1."""
    path = write_config(tmp_path, f'[journal]\nurl = "{schema.url}"\n')
    done = run_cli([*command, "-c", str(path)], directory=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"the journal is in the database of journal.url: {instead}")
    assert done.stderr.count("\n") == 1


def test_adopt_accepts_a_journal_from_another_cluster(gateway: RunningGateway, schema: Schema) -> None:
    """Until then no gateway starts with it; both identifiers are shown."""
    gateway.stop()
    [(now,)] = schema.execute("SELECT system_identifier::text FROM pg_control_system()")
    schema.execute("UPDATE gateway_journal SET system_identifier = '4711'")
    refused = gateway.cli("run")
    assert refused.returncode != 0
    assert "`gateway journal adopt`" in refused.stderr

    adopted = gateway.cli("journal", "adopt")
    assert adopted.returncode == 0, adopted.stderr
    assert f"made in the database cluster 4711, now in {now}" in adopted.stderr
    assert json.loads(gateway.cli("journal", "adopt", "--json").stdout) == {
        "adopted": False, "made_in": now, "now_in": now,
    }  # fmt: skip
    gateway.start()
