"""`gateway filter`: tries an expression for `where` on what was received."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from running import RunningGateway, on_a_terminal, running

from gateway.cli import cli

BODIES = (
    '{"type":"payment","amount":"120.50","reference":"a","customerUID":"4711"}',
    '{"type":"payment","amount":"99.99","reference":"b"}',
    '{"type":"payment","amount":"lots","reference":"c"}',
    '{"type":"payment","amount":500,\n"reference":"d"}',
    '{"type":"conversationClosed"}',
    '{"type":"brandNew","amount":"101"}',
)
EXPRESSION = "payload.amount > 100"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running(tmp_path_factory.mktemp("gateway"), "[plugins.logging]\n") as started:
        with started.client() as client:
            for body in BODIES:
                assert client.post(body.encode()).status == 200
        yield started


def run(gateway: RunningGateway, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["filter", *arguments, "-c", str(gateway.config_path)])


def references(result: Result) -> tuple[list[str], dict[str, int]]:
    assert result.exit_code == 0, result.output
    *lines, counts = map(json.loads, result.stdout.splitlines())
    return [line["body"].get("reference", "-") for line in lines], counts


def test_each_match_is_a_line_and_the_counts_come_last(gateway: RunningGateway) -> None:
    found, counts = references(run(gateway, EXPRESSION, "--json"))
    assert found == ["a", "d", "-"]
    assert counts == {"matched": 3, "of": 6, "errors": 2}


def test_it_takes_the_filters_of_events(gateway: RunningGateway) -> None:
    assert references(run(gateway, EXPRESSION, "--hook", "payment", "--json")) == (
        ["a", "d"],
        {"matched": 2, "of": 4, "errors": 1},
    )
    assert references(run(gateway, EXPRESSION, "--customer", "4711", "--json"))[1]["of"] == 1
    assert references(run(gateway, "true", "--since", "1h", "--json"))[1]["of"] == 6
    assert references(run(gateway, "true", "--until", "2020-01-01", "--json"))[1]["of"] == 0
    result = run(gateway, "true", "--organisation", "acne")
    assert result.exit_code == 2
    assert 'did you mean "acme"?' in result.output


def test_a_table_shows_what_matches_and_what_fails(gateway: RunningGateway) -> None:
    """Also what fails, since a plugin gets that, too; no body is shown."""
    result = run(gateway, EXPRESSION)
    assert result.exit_code == 0
    header, *lines, sentence = result.output.splitlines()
    assert header.split() == ["received", "(UTC)", "hook", "conversation", "id", "result"]
    results = [line.split("  ")[-1] for line in lines]
    wrong_type = "a value has another type than the expression needs"
    assert results == ["matches", f"fails: {wrong_type}", "matches", "fails: a field is missing", "matches"]
    assert sentence == (
        "3 of 6 events match; on 2 events it fails, and a plugin gets these, too:"
        f" {wrong_type} (1), a field is missing (1)"
    )
    assert "lots" not in result.output
    assert run(gateway, "event.hook == 'set-status'").output == "0 of 6 events match\n"


def test_a_terminal_gets_the_same(gateway: RunningGateway) -> None:
    code, seen = on_a_terminal(["filter", EXPRESSION, "-c", str(gateway.config_path)])
    assert code == 0
    assert "3 of 6 events match" in seen
    assert "matches" in seen


def test_it_says_what_a_running_plugin_does(gateway: RunningGateway, tmp_path: Path) -> None:
    """What it lists is what a plugin with this `where` is given in a replay."""
    table = f"[plugins.logging]\nwhere = '{EXPRESSION}'\noutput = 'taken.log'\n"
    with running(tmp_path, table) as other:
        with other.client() as client:
            ids = [str(client.post(body.encode()).document["id"]) for body in BODIES]
        result = run(other, EXPRESSION)
        listed = [one for one in ids if one in result.output]
        assert other.stop() == 0
        assert run(other, EXPRESSION).output == result.output
    taken = (tmp_path / "taken.log").read_text()
    assert [one for one in ids if one in taken] == listed
    assert len(listed) == 5


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        ("event.hok == 1", "Invalid value for EXPR: at character 1: unknown field event.hok; did you mean `hook`?"),
        ("event.hook > 1", "Invalid value for EXPR: `>` cannot take (string, int)"),
        ("", 'Invalid value for EXPR: is empty; expected an expression such as "payload.amount > 100"'),
    ],
)
def test_a_fault_in_the_expression_is_wrong_usage(gateway: RunningGateway, expression: str, sentence: str) -> None:
    result = run(gateway, expression)
    assert result.exit_code == 2
    assert sentence in result.output


def test_without_the_package_it_says_what_to_install(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cel_expr_python", None)
    result = run(gateway, EXPRESSION)
    assert result.exit_code == 2
    assert 'pip install "webio-gateway[filters]"' in result.output
