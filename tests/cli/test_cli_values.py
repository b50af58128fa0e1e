"""`gateway values`: the record of what custom value requests were given."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from running import on_a_terminal, write_config

from gateway.cli import cli
from gateway.config.load import load_config
from gateway.journal import open_journal
from gateway.journal.search import ValueRecord

SECOND = '[organisations.globex]\nsecrets = [{ file = "other.secret" }]\n'


def detail(outcome: str, provider: str | None, ms: float) -> dict[str, Any]:
    return {"outcome": outcome, "provider": provider, "ms": ms}


def at(minute: int) -> datetime:
    return datetime(2026, 5, 1, 12, minute, tzinfo=UTC)


ROWS = [
    ValueRecord(
        at=at(0),
        organisation="acme",
        customer_uid="123456",
        address="********777",
        fields={"balance": detail("value", "sql_values", 3.25), "hours": detail("cached", "static_values", 0.0)},
        status=200,
    ),
    ValueRecord(
        at=at(1),
        organisation="acme",
        customer_uid=None,
        address="*********200",
        fields={"balance": detail("several", "sql_values", 2.0)},
        status=409,
    ),
    ValueRecord(
        at=at(2),
        organisation="globex",
        customer_uid="7",
        address=None,
        fields={"shoe size\x1b[2J": detail("unknown", None, 0.0)},
        status=404,
    ),
]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal with three records, without a running gateway."""
    path = write_config(tmp_path_factory.mktemp("values"), "[values]\naudit = true\n" + SECOND)
    (path.parent / "other.secret").write_text("another secret of thirty-two bytes or more")

    async def keep() -> None:
        journal = open_journal(load_config(path), clock=at(5).timestamp)
        await journal.start()
        for row in ROWS:
            journal.record_value_request(row)
        await journal.close()

    asyncio.run(keep())
    return path


def values(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["values", "-c", str(config), *arguments])


def listed(config: Path, *arguments: str) -> list[dict[str, Any]]:
    result = values(config, *arguments, "--json")
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_line_per_request_of_the_promised_shape(config: Path) -> None:
    """Time, organisation, customer, per field outcome, provider and milliseconds, and the status; oldest first."""
    first, second, third = listed(config)

    assert first == {
        "at": "2026-05-01T12:00:00Z",
        "organisation": "acme",
        "customer_uid": "123456",
        "address": "********777",
        "fields": {
            "balance": {"outcome": "value", "provider": "sql_values", "ms": 3.25},
            "hours": {"outcome": "cached", "provider": "static_values", "ms": 0.0},
        },
        "status": 200,
    }
    assert (second["customer_uid"], second["status"]) == (None, 409)
    assert third["fields"] == {"shoe size\x1b[2J": {"outcome": "unknown", "provider": None, "ms": 0.0}}


@pytest.mark.parametrize(
    ("arguments", "statuses"),
    [
        (["--customer", "123456"], [200]),
        (["--field", "balance"], [200, 409]),
        (["--field", "bal"], []),
        (["--status", "404"], [404]),
        (["--organisation", "acme"], [200, 409]),
        (["--since", "2026-05-01T12:01", "--until", "2026-05-01T12:02"], [409]),
        (["--since", "2026-05-01T14:01+02:00"], [409, 404]),
        (["--until", "2026-05-01"], []),
        (["--field", "balance", "--status", "409", "--organisation", "acme"], [409]),
        (["--limit", "2"], [409, 404]),
        (["--limit", "1", "--field", "balance"], [409]),
    ],
    ids=str,
)
def test_all_the_filters_given_must_hold(config: Path, arguments: list[str], statuses: list[int]) -> None:
    """`--limit` takes the newest of what is left."""
    assert [row["status"] for row in listed(config, *arguments)] == statuses


@pytest.mark.parametrize(
    ("name", "statuses"), [("debt", [200, 409, 404]), ("balance", [200, 409, 404]), ("hours", [200])]
)
def test_a_field_is_found_under_all_of_its_names(tmp_path: Path, config: Path, name: str, statuses: list[int]) -> None:
    """Bots ask for it by its own name or by an alias, and the record has what they asked for."""
    text = f'[journal]\npath = "{config.parent / "var/journal.db"}"\n'
    text += '[values.fields.debt]\naliases = ["balance", "shoe size\\u001b[2J"]\n'

    assert [row["status"] for row in listed(write_config(tmp_path, text), "--field", name)] == statuses


def test_for_people_it_is_a_table(config: Path) -> None:
    """The organisation has a column where the config has several; nothing of a field's name is obeyed."""
    header, first, second, third = values(config).stdout.splitlines()

    assert header.split() == ["at", "(UTC)", "organisation", "customer", "address", "status", "fields"]
    assert first.split(maxsplit=6)[:6] == ["2026-05-01", "12:00:00", "acme", "123456", "********777", "200"]
    assert first.endswith("balance: value by sql_values in 3.25 ms, hours: cached by static_values")
    assert second.split(maxsplit=6)[3:] == ["-", "*********200", "409", "balance: several by sql_values in 2.0 ms"]
    assert third.endswith("404     shoe size\N{REPLACEMENT CHARACTER}[2J: unknown")


def test_on_a_terminal_too(config: Path) -> None:
    """With lines, and the newest only."""
    code, seen = on_a_terminal(["values", "-c", config])

    assert code == 0
    assert "───" in seen
    assert "*********200" in seen
    assert "\x1b[2J" not in seen


def test_one_organisation_needs_no_column(tmp_path: Path, config: Path) -> None:
    """It would say the same on every line."""
    alone = write_config(tmp_path, f'[journal]\npath = "{config.parent / "var/journal.db"}"\n')

    assert "organisation" not in values(alone).stdout.splitlines()[0]


def test_nothing_is_said_to_be_nothing(config: Path, tmp_path: Path) -> None:
    """And why, where no record is kept at all."""
    empty = values(config, "--customer", "nobody")
    assert (empty.exit_code, empty.stdout, empty.stderr) == (0, "", "no request matches\n")
    assert values(config, "--customer", "nobody", "--json").output == ""

    off = write_config(tmp_path, f'[journal]\npath = "{config.parent / "var/journal.db"}"\n')
    assert values(off, "--status", "504").stderr == "no request matches; [values] audit is off, so none is recorded\n"


def test_without_a_journal_it_says_so(tmp_path: Path) -> None:
    """Exit 1, one sentence, and none is made."""
    result = values(write_config(tmp_path))

    assert result.exit_code == 1
    assert result.stderr == f"there is no journal at {tmp_path / 'var/journal.db'} yet; `gateway run` makes it\n"
    assert not (tmp_path / "var").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--since", "soon"], "expected a time such as 2026-01-31, "),
        (["--since", "today", "--until", "yesterday"], "--since is not before --until, so nothing can match"),
        (["--status", "99"], "99 is not in the range 100<=x<=599"),
        (["--limit", "0"], "0 is not in the range x>=1"),
        (["123456"], "Got unexpected extra argument (123456)"),
    ],
    ids=str,
)
def test_what_it_cannot_mean_is_wrong_usage(config: Path, arguments: list[str], sentence: str) -> None:
    """Exit 2, and what would be right."""
    result = values(config, *arguments)

    assert result.exit_code == 2
    assert sentence in result.stderr
