"""`gateway send` and `gateway ask`, against a gateway that runs."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from running import RunningGateway, running, write_config

from gateway.cli import cli
from gateway.cli.init import _customers
from gateway.events import HOOKS
from gateway.journal import open_reader
from gateway.journal.interface import Filter
from gateway.journal.search import EventRow

SQL_VALUES = """
    [plugins.sql_values]
    url = "sqlite:///customers.db"
    [[plugins.sql_values.queries]]
    sql = "SELECT balance, id_number AS ID, due_date FROM customers WHERE customer_uid = :customer_uid"
    [[plugins.sql_values.queries]]
    sql = "SELECT balance, due_date FROM customers WHERE phone = :address_digits"
    [values]
    nullable = ["due_date"]
    """


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """One for all tests here; each looks at what it sent itself."""
    directory = tmp_path_factory.mktemp("gateway")
    (directory / "customers.db").write_bytes(_customers())
    with running(directory, SQL_VALUES) as started:
        yield started


def run(gateway: RunningGateway, *arguments: str, input: str | None = None) -> Result:
    return CliRunner().invoke(cli, [*arguments, "-c", str(gateway.config_path)], input=input)


def sent(gateway: RunningGateway, *arguments: str) -> list[dict[str, Any]]:
    """The lines of `gateway send --json`; all of them must have been answered 200."""
    result = run(gateway, "send", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def kept(gateway: RunningGateway, answers: list[dict[str, Any]]) -> list[EventRow]:
    """What the journal has of the events with these answers."""
    with closing(open_reader(gateway.config)) as reader:
        return list(reader.events(Filter(ids=tuple(answer["id"] for answer in answers))))


def body(row: EventRow) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(bytes(row.body))
    return fields


@pytest.mark.parametrize("spelling", ["inbound-message", "inboundMessage", "inbound_message", "Inbound Messages"])
def test_send_reads_the_hooks_name_forgivingly(gateway: RunningGateway, spelling: str) -> None:
    """However Webio, its screens or the path spell it."""
    [answer] = sent(gateway, spelling)

    assert answer["hook"] == "inbound-message"


def test_send_prints_a_line_with_the_answer(gateway: RunningGateway) -> None:
    """The gateway's own document with its status."""
    [answer] = sent(gateway, "payment")

    assert answer.keys() == {"status", "id", "hook", "duplicate", "readable"}
    assert (answer["status"], answer["hook"], answer["duplicate"], answer["readable"]) == (200, "payment", False, True)


def test_send_for_people_has_status_hook_and_id(gateway: RunningGateway) -> None:
    """One line, plain in a pipe."""
    line = run(gateway, "send", "payment").stdout

    status, hook, event_id = line.split()
    assert (status, hook) == ("200", "payment")
    assert len(event_id) == 36
    assert "\x1b" not in line


def test_send_all_sends_each_hook_in_one_conversation(gateway: RunningGateway) -> None:
    """Eight events, all read as what they are."""
    answers = sent(gateway, "--all")

    assert [answer["hook"] for answer in answers] == list(HOOKS)
    assert len({row.conversation_id for row in kept(gateway, answers)}) == 1


def test_send_field_sets_texts_and_json(gateway: RunningGateway) -> None:
    """`name=` a text, even of digits; `name:=` JSON; others stay as they were."""
    answers = sent(gateway, "payment", "--field", "conversationId=007", "--field", 'lines:=[1, {"a": null}]')

    [row] = kept(gateway, answers)
    assert row.conversation_id == "007"
    assert body(row)["lines"] == [1, {"a": None}]
    assert body(row)["currency"] == "EUR"


def test_send_count_sends_as_many_different_events(gateway: RunningGateway) -> None:
    """With several requests at the same time, too: none is a duplicate."""
    answers = sent(gateway, "payment", "--count", "50", "--concurrency", "8")

    assert len({answer["id"] for answer in answers}) == 50
    assert not any(answer["duplicate"] for answer in answers)


def test_send_file_sends_the_bytes_as_they_are(gateway: RunningGateway, tmp_path: Path) -> None:
    """Numbers keep their digits; the same bytes with a date again are a duplicate."""
    file = tmp_path / "body.json"
    file.write_text('{"type": "payment",  "amount": 12.50, "dateCreated": "2026-01-31 09:30:00.000"}')

    first, second = sent(gateway, "--file", str(file), "--count", "2")

    assert (first["hook"], first["duplicate"], second["duplicate"]) == ("payment", False, True)
    assert first["id"] == second["id"]
    [row] = kept(gateway, [first])
    assert bytes(row.body).decode() == file.read_text()


def test_send_file_with_a_hook_names_the_hook_in_the_path(gateway: RunningGateway) -> None:
    """So that a body of any type is taken as that hook; `--by-type` leaves it to the body."""
    by_path = run(gateway, "send", "setStatus", "--file", "-", "--json", input='{"type": "x1"}')
    by_type = run(gateway, "send", "setStatus", "--by-type", "--file", "-", "--json", input='{"type": "x1"}')

    assert json.loads(by_path.stdout)["hook"] == "set-status"
    assert json.loads(by_type.stdout)["hook"] == "unknown"


def test_send_that_is_refused_exits_1_with_the_gateways_reason(gateway: RunningGateway) -> None:
    """A line all the same."""
    result = run(gateway, "send", "--file", "-", "--json", input="[]")
    answer = json.loads(result.stdout)

    assert result.exit_code == 1
    assert answer["status"] == 400
    assert answer["detail"]
    assert run(gateway, "send", "--file", "-", input="[]").stdout.startswith("400  ")


def test_send_at_a_rate_takes_its_time(gateway: RunningGateway) -> None:
    """Five at twenty a second: four pauses of a twentieth."""
    import time

    began = time.monotonic()
    sent(gateway, "payment", "--count", "5", "--rate", "20")

    assert time.monotonic() - began >= 0.2


def test_send_without_a_gateway_is_a_line_that_says_so(tmp_path: Path) -> None:
    """Exit 1; the status is null, the detail names the address, and the likely reason is said once."""
    config = write_config(tmp_path)

    result = CliRunner().invoke(cli, ["send", "payment", "--json", "-c", str(config)])

    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert (answer["status"], answer["hook"]) == (None, "payment")
    assert result.stderr == "no answer; is the gateway running?\n"
    assert answer["detail"].startswith("no answer from http://127.0.0.1:")
    assert answer["detail"].endswith(": Connection refused")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "name a HOOK, or give --all, or --file with or without a HOOK"),
        (["payment", "--all"], "name a HOOK, or give --all, or --file with or without a HOOK"),
        (["pavement"], 'unknown hook "pavement"; did you mean "payment"?'),
        (["foo"], 'unknown hook "foo"; known: inbound-message, message-send, '),
        (["payment", "--field", "amount"], "expected name=string or name:=json, found 'amount'"),
        (["payment", "--file", "nowhere.json"], "'nowhere.json': No such file or directory"),
        (["payment", "--count", "0"], "0 is not in the range x>=1"),
        (["payment", "--organisation", "beta"], "unknown organisation 'beta'; known: acme"),
    ],
)
def test_send_refuses_what_it_cannot_mean(gateway: RunningGateway, arguments: list[str], sentence: str) -> None:
    """Wrong usage: exit 2, and what would be right."""
    result = run(gateway, "send", *arguments)

    assert result.exit_code == 2
    assert sentence in result.stderr


@pytest.mark.parametrize("command", [["send", "payment"], ["ask", "balance"]])
@pytest.mark.parametrize("url", ["foo", "127.0.0.1:8080/webio", "ftp://127.0.0.1/", "http:///webio", ""])
def test_a_url_that_is_none_is_wrong_usage(gateway: RunningGateway, command: list[str], url: str) -> None:
    """Exit 2, with one that would be right."""
    result = run(gateway, *command, "--url", url)

    assert result.exit_code == 2
    assert f"expected a URL such as http://127.0.0.1:8080/webio, found {url!r}" in result.stderr


def test_ask_prints_the_founding_documents_example(gateway: RunningGateway) -> None:
    """`balance` and `ID` of customer 123456, aligned."""
    result = run(gateway, "ask", "balance", "ID", "--customer", "123456", "--address", "44777777777")

    assert (result.exit_code, result.stdout) == (0, "balance  120.50\nID       ID-4711\n")


def test_ask_as_json_has_status_and_values(gateway: RunningGateway) -> None:
    """`{"status": 200, "values": {...}}`"""
    result = run(gateway, "ask", "balance", "--customer", "123456", "--json")

    assert json.loads(result.stdout) == {"status": 200, "values": {"balance": "120.50"}}


def test_ask_by_address_as_in_a_conversation_that_began_inbound(gateway: RunningGateway) -> None:
    """Without a customer UID."""
    assert run(gateway, "ask", "balance", "--address", "+44 777 777 777").stdout == "balance  120.50\n"


def test_ask_shows_null_where_it_is_allowed(gateway: RunningGateway) -> None:
    """The word for people, the value in JSON."""
    assert run(gateway, "ask", "due_date", "--customer", "123457").stdout == "due_date  null\n"
    answer = json.loads(run(gateway, "ask", "due_date", "--customer", "123457", "--json").stdout)
    assert answer["values"] == {"due_date": None}


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["shoe_size", "--customer", "123456"], 404),
        (["balance", "--customer", "999999"], 404),
        (["balance", "--address", "447700900200"], 409),
    ],
)
def test_ask_that_fails_exits_1_with_the_reason(gateway: RunningGateway, arguments: list[str], status: int) -> None:
    """The status and the gateway's detail on standard error; in JSON no values and the problem."""
    result = run(gateway, "ask", *arguments)
    document = json.loads(run(gateway, "ask", *arguments, "--json").stdout)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"{status}  {document['problem']['detail']}\n"
    assert (document["status"], document["values"]) == (status, {})


def test_ask_for_nothing_tests_the_connection(gateway: RunningGateway) -> None:
    """As Webio's own screens do."""
    result = run(gateway, "ask")

    assert (result.exit_code, result.stderr) == (0, "the gateway answers; no field was asked for\n")
    assert json.loads(run(gateway, "ask", "--json").stdout) == {"status": 200, "values": {}}


def test_ask_without_a_gateway_says_so(tmp_path: Path) -> None:
    """Exit 1, one sentence."""
    result = CliRunner().invoke(cli, ["ask", "ID", "-c", str(write_config(tmp_path))])

    assert result.exit_code == 1
    assert result.stderr.endswith(": Connection refused; is the gateway running?\n")


def test_a_machine_that_is_not_allowed_is_told_where_that_is_set(tmp_path: Path) -> None:
    """The setting, and what to add to it, once; in JSON too the answer alone is on standard output."""
    hint = 'allowed_networks in [server] lacks this machine; add "127.0.0.1/32" to it and restart\n'
    with running(tmp_path, 'allowed_networks = ["203.0.113.0/24"]\n') as refusing:
        sent = run(refusing, "send", "payment", "--count", "2")
        asked = run(refusing, "ask", "balance", "--json")

    assert (sent.exit_code, sent.stdout.count("403  payment"), sent.stderr) == (1, 2, hint)
    assert (asked.exit_code, json.loads(asked.stdout)["status"], asked.stderr) == (1, 403, hint)


def test_a_machine_that_is_a_trusted_proxy_is_told_that_its_requests_name_no_caller(tmp_path: Path) -> None:
    """Another entry in `allowed_networks` would not help."""
    with running(tmp_path, 'allowed_networks = ["127.0.0.1/32"]\ntrusted_proxies = ["127.0.0.1/32"]\n') as refusing:
        sent = run(refusing, "send", "payment")

    hint = "is in trusted_proxies in [server], and its request names no caller; use another machine\n"
    assert (sent.exit_code, sent.stderr) == (1, f"this machine (127.0.0.1) {hint}")


def test_another_url_may_be_asked(gateway: RunningGateway) -> None:
    """The proxy's, for example: the whole way is tried."""
    url = gateway.url.replace("127.0.0.1", "localhost")

    assert sent(gateway, "payment", "--url", url)[0]["status"] == 200
    result = run(gateway, "ask", "--url", url + "/custom-values")
    assert result.exit_code == 0, result.output


def test_values_are_printed_without_what_a_terminal_would_obey(gateway: RunningGateway) -> None:
    """An escape sequence in a customer's data stays harmless."""
    with closing(sqlite3.connect(gateway.directory / "customers.db")) as connection:
        connection.execute("INSERT INTO customers VALUES ('evil', '0', 'x', 'x', 'a' || char(27) || '[2J', NULL)")
        connection.commit()

    output = run(gateway, "ask", "balance", "--customer", "evil").output

    assert "\x1b" not in output
