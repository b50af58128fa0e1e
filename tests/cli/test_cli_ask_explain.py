"""`gateway ask --explain` and `--direct`: what became of each field, and asking without a running gateway."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cli_process import run_cli
from click.testing import CliRunner, Result
from running import RunningGateway, eventually, on_a_terminal, running, write_config, write_plugin

from gateway.cli import cli
from gateway.cli.init import _customers
from gateway.journal import open_reader
from gateway.journal.search import ValueRecordFilter

CONFIG = """
    [plugins.sql_values]
    url = "sqlite:///customers.db"
    [[plugins.sql_values.queries]]
    sql = "SELECT balance, due_date FROM customers WHERE customer_uid = :customer_uid"
    [[plugins.sql_values.queries]]
    sql = "SELECT balance FROM customers WHERE phone = :address_digits"
    [plugins.static_values]
    [plugins.static_values.values]
    hours = "9 to 5"
    [values]
    audit = true
    nullable = ["due_date"]
    """


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """One for all tests that only ask."""
    directory = tmp_path_factory.mktemp("gateway")
    (directory / "customers.db").write_bytes(_customers())
    with running(directory, CONFIG) as started:
        yield started


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A config without a gateway that runs."""
    (tmp_path / "customers.db").write_bytes(_customers())
    return write_config(tmp_path, CONFIG)


def ask(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["ask", *arguments, "-c", str(config)])


def explained(config: Path, *arguments: str) -> dict[str, Any]:
    """The one JSON document; the milliseconds, which must be there, taken out."""
    document: dict[str, Any] = json.loads(ask(config, *arguments, "--json").stdout)
    for field in document["fields"].values():
        assert field.pop("ms") >= 0
    return document


@pytest.mark.parametrize("options", [["--explain"], ["--explain", "--direct"]])
def test_explain_tells_provider_time_and_outcome_of_each_field(gateway: RunningGateway, options: list[str]) -> None:
    """Beside status and values, which stay as they are without it."""
    document = explained(gateway.config_path, "balance", "due_date", "hours", "--customer", "123457", *options)

    assert document == {
        "status": 200,
        "values": {"balance": "0.00", "due_date": None, "hours": "9 to 5"},
        "fields": {
            "balance": {"outcome": "value", "provider": "sql_values"},
            "due_date": {"outcome": "null", "provider": "sql_values"},
            "hours": {"outcome": "value", "provider": "static_values"},
        },
    }


@pytest.mark.parametrize("options", [["--explain"], ["--explain", "--direct"]])
def test_explain_tells_of_a_failure_which_field_it_was(gateway: RunningGateway, options: list[str]) -> None:
    """Exit 1; no value, the problem, and every field's outcome."""
    config = gateway.config_path
    document = explained(config, "balance", "hours", "--address", "447700900200", *options)

    assert (document["status"], document["values"]) == (409, {})
    assert document["problem"]["detail"] == "several customers match"
    assert document["fields"]["balance"] == {"outcome": "several", "provider": "sql_values"}
    assert document["fields"]["hours"] == {"outcome": "value", "provider": "static_values"}
    assert ask(config, "balance", "--address", "447700900200", *options, "--json").exit_code == 1


def test_explain_for_people_is_a_table(gateway: RunningGateway) -> None:
    """A line per field with its value, and on standard error why there is none."""
    good = ask(gateway.config_path, "balance", "due_date", "--customer", "123457", "--explain")
    header, balance, due = good.stdout.splitlines()
    assert header.split() == ["field", "outcome", "provider", "ms", "value"]
    assert balance.split()[:3] == ["balance", "value", "sql_values"]
    assert (balance.split()[4], due.split()[4]) == ("0.00", "null")
    assert (good.exit_code, good.stderr) == (0, "")

    bad = ask(gateway.config_path, "balance", "size", "--customer", "123457", "--explain")
    _, balance, size = bad.stdout.splitlines()
    assert (balance.split()[-1], size.split()) == ("-", ["size", "unknown", "-", "0.0", "-"])
    assert (bad.exit_code, bad.stderr) == (1, "404  no provider knows this customer or this field\n")


def test_explain_on_a_terminal_is_a_table_with_lines(gateway: RunningGateway) -> None:
    """As everywhere."""
    code, seen = on_a_terminal(["ask", "balance", "--customer", "123456", "--explain", "-c", gateway.config_path])

    assert code == 0
    assert "───" in seen
    assert "120.50" in seen


def test_without_either_nothing_more_is_told(gateway: RunningGateway) -> None:
    """The public answer carries no details, so there are none to show."""
    document = json.loads(ask(gateway.config_path, "hours", "--json").stdout)

    assert document == {"status": 200, "values": {"hours": "9 to 5"}}


def test_direct_asks_without_a_running_gateway(stopped: Path) -> None:
    """The same answer; no journal is made, and Webio's secret is not needed."""
    (stopped.parent / "webio.secret").unlink()

    assert ask(stopped, "balance", "hours", "--customer", "123456", "--direct").output == (
        "balance  120.50\nhours    9 to 5\n"
    )
    assert json.loads(ask(stopped, "hours", "--direct", "--json").stdout) == {
        "status": 200,
        "values": {"hours": "9 to 5"},
    }
    assert ask(stopped, "size", "--direct").stderr == "404  no provider knows this customer or this field\n"
    assert not (stopped.parent / "var").exists()


def test_explain_asks_directly_where_no_gateway_runs_and_says_so(stopped: Path) -> None:
    """It says so on standard error, so that standard output is still JSON."""
    result = ask(stopped, "hours", "--explain", "--json")

    assert json.loads(result.stdout)["fields"]["hours"]["provider"] == "static_values"
    assert result.stderr == "no gateway runs with this config; asking its providers directly\n"
    assert ask(stopped, "hours", "--explain", "--direct").stderr == ""


def test_direct_starts_what_answers_and_nothing_else(tmp_path: Path, site: Path) -> None:
    """And shuts it down again; a plugin for events is not started, because it may run only once."""
    source = """
        from pathlib import Path
        from gateway import hookimpl

        class Plugin:
            @hookimpl
            def startup(self, context):
                self.file = Path(context.directory) / context.name
                self.file.write_text("up")

            @hookimpl
            def shutdown(self):
                self.file.write_text("down")
        """
    answers = """
            @hookimpl
            def custom_values(self, request): return {"hours": self.file.read_text()}
        """
    write_plugin(site, "events_only", source)
    write_plugin(site, "answering", source + answers)
    config = write_config(tmp_path, "[plugins.events_only]\n[plugins.answering]\n")

    assert ask(config, "hours", "--direct").output == "hours  up\n"
    assert (tmp_path / "answering").read_text() == "down"
    assert not (tmp_path / "events_only").exists()


def test_a_provider_that_does_not_start_is_a_sentence(tmp_path: Path, site: Path) -> None:
    """Exit 1; a fault of its settings, exit 78."""
    source = """
        from gateway import hookimpl

        class Plugin:
            @hookimpl
            def startup(self): raise OSError("no route to the host")

            @hookimpl
            def custom_values(self, request): return {}
        """
    write_plugin(site, "sad", source)
    config = write_config(tmp_path, "[plugins.sad]\n")

    result = ask(config, "hours", "--direct")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "plugin sad did not start: OSError: no route to the host\n"
    config.write_text(config.read_text() + "hosts = 5\n")
    assert ask(config, "hours", "--direct").exit_code == 78


def test_a_direct_question_says_why_a_provider_failed(stopped: Path) -> None:
    """What would be in the gateway's log goes to standard error."""
    with closing(sqlite3.connect(stopped.parent / "customers.db")) as connection:
        connection.execute("DROP TABLE customers")
    result = run_cli(["ask", "balance", "--customer", "1", "--direct", "--explain", "--json", "-c", stopped])

    document = json.loads(result.stdout)
    assert (document["status"], document["fields"]["balance"]["outcome"]) == (502, "failed")
    assert "provider sql_values failed: " in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("option", ["--explain", "--direct"])
def test_another_url_can_only_be_asked_as_webio_does(stopped: Path, option: str) -> None:
    """Exit 2, and why."""
    result = ask(stopped, "hours", option, "--url", "https://hooks.example.com/webio")

    assert result.exit_code == 2
    assert "--url asks as Webio does; it cannot be used with --explain or --direct" in result.stderr


def test_only_a_request_as_webios_is_in_the_record(gateway: RunningGateway) -> None:
    """`gateway values` lists the requests of Webio; questions with --explain and --direct are not among them."""
    for option, customer in ((["--explain"], "explained"), (["--direct"], "direct"), ([], "plain")):
        assert ask(gateway.config_path, "hours", "--customer", customer, *option).exit_code == 0

    def recorded() -> list[str | None]:
        with closing(open_reader(gateway.config)) as reader:
            return [row.customer_uid for row in reader.value_records(ValueRecordFilter(fields=("hours",)))]

    eventually(lambda: "plain" in recorded())
    assert not {"explained", "direct"} & set(recorded())
