"""`hooks` and `organisations` in a plugin's table: which events it gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from running import RunningGateway, eventually, running, write_config, write_plugin

from gateway.cli import cli

TAKER = """
from gateway import Reject, hookimpl

class Plugin:
    @hookimpl
    async def on_event(self, event):
        # in one write, or a line of the log may come between the text and its end
        print(f"got {event.organisation} {event.hook} {event.readable}\\n", end="", flush=True)
"""
FAILING = """
from gateway import hookimpl

class Plugin:
    @hookimpl
    async def on_payment(self, event, payload):
        raise RuntimeError("not now")
"""
ONE_HOOK = """
class Plugin:
    def on_payment(self, event, payload): ...
"""
OTHER = '[organisations.other]\nsecrets = [{ file = "other.secret" }]\n'


def post(gateway: RunningGateway, *bodies: str, organisation: str = "acme") -> list[str]:
    with gateway.client(organisation) as client:
        return [str(client.post(body.encode()).document["id"]) for body in bodies]


def states(gateway: RunningGateway) -> dict[str, str]:
    result = gateway.cli("events", "--json")
    assert result.returncode == 0, result.stderr
    return {row["id"]: row["state"] for row in map(json.loads, result.stdout.splitlines())}


def got(gateway: RunningGateway) -> list[str]:
    return [line.strip() for line in gateway.output if line.startswith("got ")]


def test_only_events_of_these_hooks_are_delivered(tmp_path: Path) -> None:
    """Also those of them that cannot be read; for the others no plugin is a taker, and the cursor moves past them."""
    table = '[plugins.taker]\nhooks = ["payment", "unknown"]\n'
    with running(tmp_path, table, plugins={"taker": TAKER}) as gateway:
        ids = post(
            gateway,
            '{"type":"payment"}',
            '{"type":"conversationClosed"}',
            '{"type":"payment","conversationId":{}}',
            '{"type":"brandNew"}',
            '{"type":"setStatus"}',
        )
        expected = ["delivered", "no taker", "delivered", "delivered", "no taker"]
        eventually(lambda: states(gateway) == dict(zip(ids, expected, strict=True)))
        assert got(gateway) == ["got acme payment True", "got acme payment False", "got acme unknown True"]
        shown = gateway.cli("events", "--state", "no taker", "--json").stdout.splitlines()
        assert [json.loads(line)["id"] for line in shown] == [ids[1], ids[4]]
        shown = gateway.cli("events", "--state", "delivered", "--plugin", "taker", "--json").stdout.splitlines()
        assert [json.loads(line)["id"] for line in shown] == [ids[0], ids[2], ids[3]]
        assert 'gateway_plugin_behind{plugin="taker"} 0' in metrics(gateway)


def metrics(gateway: RunningGateway) -> str:
    import httpx

    return httpx.get(f"{gateway.admin_url}/metrics").text


def test_only_events_of_these_organisations_are_delivered(tmp_path: Path) -> None:
    """Together with `hooks` an event must match both."""
    (tmp_path / "other.secret").write_text("the other secret of more than thirty-two bytes")
    (tmp_path / "other.secret").chmod(0o600)
    tables = (
        f'{OTHER}[plugins.taker]\norganisations = ["other"]\n'
        '[plugins.both]\nuse = "one"\norganisations = ["acme"]\nhooks = ["payment"]\n'
    )
    with running(tmp_path, tables, plugins={"taker": TAKER, "one": ONE_HOOK}) as gateway:
        acme = post(gateway, '{"type":"payment"}', '{"type":"setStatus"}')
        other = post(gateway, '{"type":"payment"}', '{"type":"setStatus"}', organisation="other")
        rows: list[dict[str, Any]] = []

        def settled() -> bool:
            rows[:] = map(json.loads, gateway.cli("events", "--json").stdout.splitlines())
            return not any("waiting" in row["deliveries"].values() for row in rows)

        eventually(settled)
        assert {row["id"]: row["deliveries"] for row in rows} == {
            acme[0]: {"both": "delivered"},
            acme[1]: {},
            other[0]: {"taker": "delivered"},
            other[1]: {"taker": "delivered"},
        }
        assert sorted(got(gateway)) == ["got other payment True", "got other set-status True"]
        assert list(states(gateway).values()).count("no taker") == 1


def test_a_changed_filter_needs_a_restart_and_counts_from_there_on(tmp_path: Path) -> None:
    """What was no taker's stays so until a replay, which delivers it."""
    with running(tmp_path, '[plugins.taker]\nhooks = ["payment"]\n', plugins={"taker": TAKER}) as gateway:
        [closed] = post(gateway, '{"type":"conversationClosed"}')
        gateway.config_path.write_text(
            gateway.config_path.read_text().replace('["payment"]', '["conversation-closed"]')
        )
        reloaded = json.loads(gateway.cli("reload", "--json").stdout)
        assert reloaded == {"applied": True, "needs_restart": ["plugins.taker"], "errors": []}
        assert gateway.stop() == 0
        gateway.start()
        [paid, later] = post(gateway, '{"type":"payment"}', '{"type":"conversationClosed","n":1}')
        eventually(lambda: states(gateway) == {closed: "no taker", paid: "no taker", later: "delivered"})
        done = json.loads(gateway.cli("replay", "--plugin", "taker", "--yes", "--json").stdout)
        assert done["matched"] == 3
        eventually(lambda: states(gateway) == {closed: "delivered", paid: "no taker", later: "delivered"})
        assert got(gateway) == ["got acme conversation-closed True"] * 3


def test_an_event_that_was_to_be_retried_is_not_called_delivered(tmp_path: Path) -> None:
    """Where the filter excludes it now: it is a dead letter that says why."""
    table = '[plugins.shop]\nbackoff = "50ms"\n#\n'
    with running(tmp_path, table, plugins={"shop": FAILING}) as gateway:
        [paid] = post(gateway, '{"type":"payment"}')
        eventually(lambda: states(gateway) == {paid: "retrying"})
        assert gateway.stop() == 0
        gateway.config_path.write_text(gateway.config_path.read_text().replace("#\n", 'hooks = ["set-status"]\n'))
        gateway.start()
        eventually(lambda: states(gateway) == {paid: "dead"})
        [dead] = map(json.loads, gateway.cli("dead", "--json").stdout.splitlines())
        assert "does not take such events any more" in dead["error"]


def checked(tmp_path: Path, table: str) -> dict[str, Any]:
    result = CliRunner().invoke(cli, ["check", "--offline", "--json", "-c", str(write_config(tmp_path, table))])
    document: dict[str, Any] = json.loads(result.stdout)
    assert result.exit_code == (0 if document["ok"] else 78)
    return document


def found(document: dict[str, Any], kind: str) -> list[tuple[str, str]]:
    return [(one["path"], one["message"]) for one in document[kind] if one["path"].startswith("plugins")]


def test_a_misspelt_name_is_an_error_with_a_suggestion(tmp_path: Path) -> None:
    """Every one of them, with its place; an empty list, too, since the plugin would get nothing."""
    hooks = 'hooks = ["paymnt", "payment", "xyz", "unknown"]\norganisations = ["acne", "nope"]\n'
    document = checked(tmp_path, f"[plugins.logging]\n{hooks}")
    known = (
        "inbound-message, message-send, delivery-report, payment, set-status, conversation-closed, move-to-queue,"
        " conversation-assignment, unknown"
    )
    assert found(document, "errors") == [
        ("plugins.logging.hooks[0]", 'unknown hook "paymnt"; did you mean "payment"?'),
        ("plugins.logging.hooks[2]", f'unknown hook "xyz"; known: {known}'),
        ("plugins.logging.organisations[0]", 'unknown organisation "acne"; did you mean "acme"?'),
        ("plugins.logging.organisations[1]", 'unknown organisation "nope"; known: acme'),
    ]
    empty = checked(tmp_path, "[plugins.logging]\nhooks = []\norganisations = []\n")
    assert found(empty, "errors") == [
        ("plugins.logging.hooks", "is empty; expected at least one hook, or no such key for every hook"),
        (
            "plugins.logging.organisations",
            "is empty; expected at least one organisation, or no such key for every organisation",
        ),
    ]
    table = checked(tmp_path, "[plugins.logging.hooks.payment]\n[plugins.static_values.organisations.acme]\na = 'b'\n")
    assert found(table, "errors") == [("plugins.logging.hooks", "expected an array of names, found a table")]
    wrong = checked(tmp_path, '[plugins.logging]\nhooks = "payment"\norganisations = [1]\n')
    assert found(wrong, "errors") == [
        ("plugins.logging.hooks", 'expected an array, found "payment"'),
        ("plugins.logging.organisations[0]", "expected a string, found 1 (a number)"),
    ]


def test_a_filter_without_effect_is_a_warning(tmp_path: Path, site: Path) -> None:
    """A hook that the plugin does not have, and a plugin that takes no events."""
    write_plugin(site, "one", ONE_HOOK)
    values = '[plugins.static_values]\norganisations = ["acme"]\nvalues.a = "b"\n'
    document = checked(tmp_path, f'[plugins.one]\nhooks = ["set-status", "payment"]\n{values}')
    assert found(document, "warnings") == [
        ("plugins.one.hooks[0]", "the plugin does not take events of set-status; it takes payment"),
        ("plugins.static_values.organisations", "has no effect: the plugin takes no events"),
    ]


@pytest.mark.parametrize("hooks", [["set-status"], ["unknown"]])
def test_a_plugin_whose_filter_leaves_nothing_is_named_by_replay(tmp_path: Path, site: Path, hooks: list[str]) -> None:
    """It takes no events, and so there is nothing to replay to it."""
    write_plugin(site, "one", ONE_HOOK)
    config = write_config(tmp_path, f"[plugins.one]\nhooks = {json.dumps(hooks)}\n")
    result = CliRunner().invoke(cli, ["replay", "--plugin", "one", "-c", str(config)])
    assert result.exit_code == 1
    assert "the plugin one is not enabled, or takes no events" in result.output
