"""`where` in a plugin's table: an expression that says which events it gets."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from running import RunningGateway, eventually, running, write_config

from gateway.cli import cli

TAKER = """
from gateway import hookimpl

class Plugin:
    @hookimpl
    async def on_event(self, event):
        print("got", event.fields().get("reference"), flush=True)
"""
LARGE = '[plugins.taker]\nwhere = "payload.amount > 100 && has(payload.reference)"\n'


def post(gateway: RunningGateway, *bodies: str) -> list[str]:
    with gateway.client() as client:
        return [str(client.post(body.encode()).document["id"]) for body in bodies]


def payment(reference: str, amount: str) -> str:
    return f'{{"type":"payment","reference":"{reference}","amount":{amount}}}'


def states(gateway: RunningGateway, *options: str) -> dict[str, str]:
    result = gateway.cli("events", "--json", *options)
    assert result.returncode == 0, result.stderr
    return {row["id"]: row["state"] for row in map(json.loads, result.stdout.splitlines())}


def got(gateway: RunningGateway) -> list[str]:
    return [line.split()[1] for line in gateway.output if line.startswith("got ")]


def health(gateway: RunningGateway, name: str = "taker") -> dict[str, Any]:
    plugins = httpx.get(f"{gateway.admin_url}/health/ready").json()["plugins"]
    [one] = [plugin for plugin in plugins if plugin["name"] == name]
    return dict(one)


def test_only_events_of_which_it_is_true_are_delivered(tmp_path: Path) -> None:
    """For the others no plugin is a taker, as with `hooks`. Listings by state agree with it."""
    other = '[plugins.other]\nuse = "taker"\nwhere = "payload.amount == 5"\n'
    with running(tmp_path, LARGE + other, plugins={"taker": TAKER}) as gateway:
        first, second, third, fourth = post(
            gateway,
            payment("a", '"120.50"'),
            payment("b", '"99.99"'),
            payment("c", "100.01"),
            payment("d", '"5.00"'),
        )
        expected = {first: "delivered", second: "no taker", third: "delivered", fourth: "delivered"}
        eventually(lambda: states(gateway) == expected)
        eventually(lambda: sorted(got(gateway)) == ["a", "c", "d"])
        assert list(states(gateway, "--state", "no taker")) == [second]
        assert list(states(gateway, "--state", "delivered")) == [first, third, fourth]
        assert list(states(gateway, "--state", "delivered", "--plugin", "taker")) == [first, third]
        assert list(states(gateway, "--state", "no taker", "--plugin", "other")) == [first, second, third]
        assert states(gateway, "--state", "waiting") == {}
        rows = map(json.loads, gateway.cli("events", "--json").stdout.splitlines())
        assert [row["deliveries"] for row in rows] == [
            {"taker": "delivered"},
            {},
            {"taker": "delivered"},
            {"other": "delivered"},
        ]
        eventually(lambda: health(gateway)["behind"] == 0)
        assert (health(gateway)["held_back"], health(gateway)["where_failures"]) == (2, 0)
        assert 'gateway_held_back_total{plugin="taker"} 2' in httpx.get(f"{gateway.admin_url}/metrics").text


def test_an_event_on_which_it_fails_is_delivered_and_counted(tmp_path: Path) -> None:
    """The log line has neither the amount nor anything else of the body."""
    with running(tmp_path, LARGE, plugins={"taker": TAKER}) as gateway:
        [failed, _] = post(gateway, payment("a", '"one 4711 hundred"'), payment("b", '"1"'))
        eventually(lambda: len(states(gateway, "--state", "no taker")) == 1)
        assert states(gateway)[failed] == "delivered"
        assert got(gateway) == ["a"]
        shown = health(gateway)
        assert (shown["held_back"], shown["where_failures"], shown["healthy"]) == (1, 1, True)
        assert shown["where_failure"] == "a value has another type than the expression needs"
        assert 'gateway_where_failures_total{plugin="taker"} 1' in httpx.get(f"{gateway.admin_url}/metrics").text
        eventually(lambda: any("`where` failed on event" in line for line in gateway.output))
        [line] = [line for line in gateway.output if "`where` failed" in line]
        assert f"plugin taker: `where` failed on event {failed}, which is delivered: a value has" in line
        assert "4711" not in "".join(gateway.output)
        now = httpx.get(f"{gateway.admin_url}/").text
        assert "<code>where</code> failed on 1 event, which it got: a value has another type" in now
        [status] = httpx.get(f"{gateway.admin_url}/api/status").json()["plugins"]
        assert (status["held_back"], status["where_failures"]) == (1, 1)


def test_a_reload_puts_another_expression_in_force(tmp_path: Path) -> None:
    """For events that come later; a replay delivers what it matches of the earlier ones, which then is delivered."""
    with running(tmp_path, LARGE, plugins={"taker": TAKER}) as gateway:
        [small] = post(gateway, payment("a", '"50"'))
        eventually(lambda: states(gateway) == {small: "no taker"})
        text = gateway.config_path.read_text()
        gateway.config_path.write_text(text.replace("> 100", "> 40"))
        reloaded = json.loads(gateway.cli("reload", "--json").stdout)
        assert reloaded == {"applied": True, "needs_restart": [], "errors": []}
        [later, tiny] = post(gateway, payment("b", '"60"'), payment("c", '"1"'))
        eventually(lambda: states(gateway) == {small: "no taker", later: "delivered", tiny: "no taker"})
        gateway.cli("replay", "--plugin", "taker", "--yes")
        eventually(lambda: states(gateway) == {small: "delivered", later: "delivered", tiny: "no taker"})
        eventually(lambda: got(gateway) == ["b", "a", "b"])
        gateway.config_path.write_text(text.replace("payload.amount > 100", "payload.amount >"))
        result = gateway.cli("reload", "--json")
        assert result.returncode != 0
        assert json.loads(result.stdout)["errors"][0]["path"] == "plugins.taker.where"
        assert gateway.stop() == 0
        gateway.config_path.write_text(text.replace("where =", "#where ="))
        gateway.start()
        assert states(gateway) == {small: "delivered", later: "delivered", tiny: "no taker"}


def checked(tmp_path: Path, tables: str) -> list[tuple[str, str]]:
    result = CliRunner().invoke(cli, ["check", "--offline", "--json", "-c", str(write_config(tmp_path, tables))])
    document = json.loads(result.stdout)
    assert result.exit_code == (0 if document["ok"] else 78)
    kinds = document["errors"] + document["warnings"]
    return [(one["path"], one["message"]) for one in kinds if one["path"].startswith("plugins")]


def test_check_finds_what_is_wrong_with_an_expression(tmp_path: Path) -> None:
    """Every one, together with the other faults of its table."""
    tables = (
        '[plugins.logging]\nwhere = "event.hok == 1"\nwrong = 1\n'
        '[plugins.a]\nuse = "logging"\nwhere = "event.hook > 5"\n'
        f'[plugins.b]\nuse = "logging"\nwhere = "{" " * 2048}1"\n'
        '[plugins.c]\nuse = "logging"\nwhere = 5\n'
        '[plugins.d]\nuse = "logging"\nwhere = ["x"]\n'
    )
    found = checked(tmp_path, tables)
    assert ("plugins.logging.where", "at character 1: unknown field event.hok; did you mean `hook`?") in found
    assert any(path == "plugins.logging.wrong" for path, _ in found)
    assert ("plugins.a.where", "`>` cannot take (string, int)") in found
    assert ("plugins.b.where", "is 2,049 bytes long; expected at most 2,048") in found
    assert ("plugins.c.where", "expected a string, found 5 (a number)") in found
    assert any(path == "plugins.d.where" for path, _ in found)
    assert checked(tmp_path, LARGE.replace("taker", "logging")) == []


def test_a_plugin_without_events_has_no_use_for_it(tmp_path: Path) -> None:
    found = checked(tmp_path, '[plugins.static_values]\nwhere = "true"\nvalues.a = "b"\n')
    assert found == [("plugins.static_values.where", "has no effect: the plugin takes no events")]


def test_without_the_package_check_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A config without a `where` needs no package, and loads none."""
    monkeypatch.setitem(sys.modules, "cel_expr_python", None)
    assert checked(tmp_path, LARGE.replace("taker", "logging")) == [
        (
            "plugins.logging.where",
            'needs the extra `filters`, which is not installed; pip install "webio-gateway[filters]"',
        )
    ]
    assert checked(tmp_path, "[plugins.logging]\n") == []


def test_plugins_shows_the_filters_of_a_plugin(tmp_path: Path) -> None:
    """Beside its settings."""
    table = '[plugins.logging]\nhooks = ["payment"]\nwhere = "payload.amount > 100"\n'
    path = str(write_config(tmp_path, table))
    shown = json.loads(CliRunner().invoke(cli, ["plugins", "logging", "--json", "-c", path]).stdout)
    assert shown["filters"] == {"hooks": ["payment"], "where": "payload.amount > 100"}
    result = CliRunner().invoke(cli, ["plugins", "logging", "-c", path])
    assert 'gets only events with hooks = ["payment"]\n' in result.output
    assert 'gets only events with where = "payload.amount > 100"\n' in result.output
    assert json.loads(CliRunner().invoke(cli, ["plugins", "archive", "--json", "-c", path]).stdout)["filters"] == {}


def test_without_a_filter_nothing_of_it_is_loaded(tmp_path: Path) -> None:
    """Neither the package nor what checks expressions."""
    code = (
        "import sys; from pathlib import Path; from gateway.preflight import sound_config;"
        " sound_config(Path(sys.argv[1]));"
        " print([name for name in sys.modules if 'cel_expr' in name or name.endswith('where.rules')])"
    )

    def loaded(table: str) -> str:
        path = write_config(tmp_path, table)
        return subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True).stdout

    assert loaded("[plugins.logging]\n") == "[]\n"
    assert "cel_expr_python" in loaded("[plugins.logging]\nwhere = 'event.readable'\n")
