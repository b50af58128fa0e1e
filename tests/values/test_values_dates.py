"""Dates from real databases: in the organisation's time zone; a column without a real date is a failure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from asking import Knows, ask, asking, problem_of, running, values_of
from databases import Database, open_database

BERLIN = '[organisations.berlin]\ntimezone = "Europe/Berlin"\nsecrets = [{ file = "berlin.secret" }]\n'
PLUGIN = """
[plugins.sql_values]
url = {url}
[[plugins.sql_values.queries]]
sql = "{sql}"
"""


def configured(database: Database, sql: str, head: str = "") -> str:
    return head + PLUGIN.format(url=database.config, sql=sql)


@pytest.fixture(autouse=True)
def secret(tmp_path: Path) -> None:
    """The secret of the organisation in Berlin."""
    (tmp_path / "berlin.secret").write_bytes(b"b" * 48)


@pytest.fixture
def postgresql(tmp_path: Path) -> Iterator[Database]:
    with open_database("postgresql", tmp_path) as database:
        yield database


@pytest.fixture
def mariadb(tmp_path: Path) -> Iterator[Database]:
    with open_database("mariadb", tmp_path) as database:
        yield database


async def test_a_format_tells_the_day_that_the_organisation_has(postgresql: Database, tmp_path: Path) -> None:
    """PostgreSQL gives moments in UTC, where Berlin's midnight is the day before."""
    sql = "SELECT '2026-09-01 00:00+02'::timestamptz AS due, '2026-09-01 00:00'::timestamp AS plain"
    fields = '[values.fields.due]\nformat = "%d/%m/%Y"\n[values.fields.plain]\nformat = "%d/%m/%Y"\n'
    async with running(tmp_path, configured(postgresql, sql, BERLIN + fields)) as (values, _):
        assert values_of(await ask(values, "due", "plain", organisation="berlin")) == {
            "due": "01/09/2026",
            "plain": "01/09/2026",
        }
    async with running(tmp_path, configured(postgresql, sql, BERLIN)) as (values, _):
        assert values_of(await ask(values, "due", "plain", organisation="berlin")) == {
            "due": "2026-08-31T22:00:00+00:00",
            "plain": "2026-09-01T00:00:00",
        }


async def test_each_organisation_has_its_own_clocks(tmp_path: Path) -> None:
    """One moment, two days."""
    text = BERLIN + '[values.fields.due]\nformat = "%d/%m/%Y"\n'
    async with asking(tmp_path, text, crm=Knows({"due": "2026-08-31T22:00:00Z"})) as values:
        assert values_of(await ask(values, "due", organisation="berlin")) == {"due": "01/09/2026"}
        assert values_of(await ask(values, "due")) == {"due": "31/08/2026"}


@pytest.mark.parametrize("kind", ["date", "timestamp", "timestamptz"])
@pytest.mark.parametrize("infinity", ["infinity", "-infinity"])
@pytest.mark.parametrize("head", ["", '[values.fields.due]\nformat = "%d/%m/%Y"\n'])
async def test_infinity_is_no_date(postgresql: Database, tmp_path: Path, kind: str, infinity: str, head: str) -> None:
    """The driver returns the last or the first possible day, which is not a due date."""
    sql = f"SELECT '{infinity}'::{kind} AS due"
    async with running(tmp_path, configured(postgresql, sql, head)) as (values, _):
        assert problem_of(await ask(values, "due")) == (502, ["due"])


async def test_a_zero_date_is_no_date(mariadb: Database, tmp_path: Path) -> None:
    """MariaDB keeps one where it was told to, and its driver gives it as a text."""
    mariadb.execute(f"CREATE TABLE {mariadb.table} (day DATE, moment DATETIME, fine DATETIME(6))")
    zeros = "('0000-00-00', '0000-00-00', '0000-00-00')"
    mariadb.execute(f"SET STATEMENT sql_mode = '' FOR INSERT INTO {mariadb.table} VALUES {zeros}")
    sql = f"SELECT day, moment, fine FROM {mariadb.table}"
    async with running(tmp_path, configured(mariadb, sql)) as (values, _):
        assert problem_of(await ask(values, "day", "moment", "fine")) == (502, ["day", "moment", "fine"])


@pytest.mark.parametrize(
    ("field", "line"),
    [
        ("due_date", "provider crm failed: BadValue: a value of type bytes in due_date; breaker closed"),
        ("Jane Doe", "provider crm failed: BadValue: a value of type bytes; breaker closed"),
        ("x44777", "provider crm failed: BadValue: a value of type bytes; breaker closed"),
    ],
)
async def test_the_log_names_the_field_of_a_bad_value(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, field: str, line: str
) -> None:
    """A name that may be personal data is left out: it comes from the request."""
    async with asking(tmp_path, crm=Knows({field: b"?"})) as values:
        assert problem_of(await ask(values, field)) == (502, [field])
    assert caplog.messages == [line]
