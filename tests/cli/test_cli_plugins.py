"""`gateway plugins`: what is installed, and what is enabled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from running import write_config, write_plugin

from gateway.cli import cli
from gateway.plugin_host.packages import PackageFacts, facts_of
from gateway.plugin_host.sources import installed

COUNTING = """
import msgspec
from gateway import hookimpl

class Plugin:
    class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        step: int
        name: str = "n"

    def __init__(self, config):
        raise AssertionError("listing makes no instance")

    @hookimpl
    def on_payment(self, event, payload): ...

    @hookimpl
    def checkpoint(self): ...
"""


def plugins(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["plugins", "-c", str(config), *arguments])


def rows(config: Path) -> dict[str, dict[str, Any]]:
    found = [json.loads(line) for line in plugins(config, "--json").output.splitlines()]
    return {row["name"]: row for row in found}


def test_a_line_per_plugin_with_the_promised_keys(tmp_path: Path) -> None:
    """Name, plugin, version, distribution, enabled, hooks; those of the config first and in its order."""
    config = write_config(tmp_path, '[plugins.logging]\n[plugins.archive]\ndirectory = "a"\n')

    found = rows(config)

    assert list(found)[:2] == ["logging", "archive"]
    row = found["archive"]
    assert (row["plugin"], row["distribution"], row["enabled"]) == ("archive", "webio-gateway", True)
    assert row["version"]
    assert "on_event" in row["hooks"]
    assert row["settings"]["directory"] == {"required": True}


def test_what_the_config_does_not_use_is_listed_as_off(tmp_path: Path) -> None:
    """And a table that is switched off, too."""
    config = write_config(tmp_path, '[plugins.archive]\nenabled = false\ndirectory = "a"\n')

    found = rows(config)

    assert (found["archive"]["enabled"], found["sql_values"]["enabled"]) == (False, False)


def test_a_second_instance_has_its_own_line(tmp_path: Path) -> None:
    """Under its own name, with the plugin that it uses."""
    text = '[plugins.archive]\ndirectory = "a"\n[plugins.archive-eu]\nuse = "archive"\ndirectory = "b"\n'

    found = rows(write_config(tmp_path, text))

    assert found["archive-eu"]["plugin"] == "archive"
    assert "archive-eu (archive)" in plugins(tmp_path / "config.toml").output


def test_a_third_partys_plugin_is_listed_like_a_bundled_one(tmp_path: Path, site: Path) -> None:
    """Its hooks in the contract's order, and its settings; no instance of it is made."""
    write_plugin(site, "counting", COUNTING, version="2.3")

    row = rows(write_config(tmp_path))["counting"]

    assert (row["distribution"], row["version"], row["enabled"]) == ("plugin-counting", "2.3", False)
    assert row["hooks"] == ["on_payment", "checkpoint"]
    assert row["settings"] == {"step": {"required": True}, "name": {"required": False}}


def test_a_plugin_that_cannot_be_imported_does_not_hide_the_others(tmp_path: Path, site: Path) -> None:
    """It is listed with its distribution and the cause."""
    write_plugin(site, "broken", "import no_such_module\n")

    found = rows(write_config(tmp_path))

    assert "No module named 'no_such_module'" in found["broken"]["error"]
    assert found["broken"]["distribution"] == "plugin-broken"
    assert {"archive", "logging", "sql_values"} <= found.keys()


def test_a_plugin_that_is_not_installed_is_said_to_be_missing(tmp_path: Path) -> None:
    """The config names it, and no distribution provides it."""
    config = write_config(tmp_path, "[plugins.crm]\n")

    assert rows(config)["crm"]["error"].startswith('no plugin "crm" is installed; installed: amqp, archive, ')
    assert 'crm: no plugin "crm" is installed; ' in plugins(config).stderr


def test_without_a_config_what_is_installed_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before `gateway init`, too; nothing is enabled then."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GATEWAY_CONFIG", raising=False)
    result = CliRunner().invoke(cli, ["plugins", "--json"])
    found = [json.loads(line) for line in result.output.splitlines()]

    names = [row["name"] for row in found]
    assert {"archive", "logging", "sql_values"} <= set(names)
    assert names == sorted(names)
    assert not any(row["enabled"] for row in found)


@pytest.mark.parametrize("arguments", [["-c", "typo.toml", "plugins"], ["plugins", "-c", "typo.toml"], ["plugins"]])
def test_a_config_that_was_asked_for_must_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    """By `-c`, wherever it stands, or by the environment."""
    monkeypatch.chdir(tmp_path)
    environment = {} if "-c" in arguments else {"GATEWAY_CONFIG": "typo.toml"}

    result = CliRunner().invoke(cli, arguments, env=environment)

    assert result.exit_code == 78
    assert "typo.toml: config: the file does not exist" in result.output


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("Plugin = 5", "is not a class"),
        (
            "class Plugin:\n    def on_paymnt(self, event): ...",
            'did you mean "on_payment"?; names that begin with on_ are reserved for hooks',
        ),
        ("class Plugin:\n    def on_event(self, evnt): ...", "on_event has no argument 'evnt'; arguments: event"),
        (
            "import msgspec\nclass Plugin:\n    class Config(msgspec.Struct):\n        timeout: int = 1\n",
            "Config has timeout, which is the gateway's own",
        ),
    ],
)
def test_what_can_never_start_is_an_error(tmp_path: Path, site: Path, source: str, message: str, enabled: bool) -> None:
    """Whether the config uses it or not, with the sentence that `check` has."""
    write_plugin(site, "odd", source)
    config = write_config(tmp_path, "[plugins.odd]\n" if enabled else "")

    row = rows(config)["odd"]
    result = plugins(config)

    assert row["enabled"] == enabled
    assert row["error"].startswith("plugin_odd:Plugin from plugin-odd 1.0")
    assert row["error"].endswith(message)
    [line] = [line for line in result.stdout.splitlines() if line.startswith("odd ")]
    assert line.split()[1] == "error"
    assert f"odd: {row['error']}\n" in result.stderr


def test_what_cannot_start_with_its_settings_is_an_error(tmp_path: Path, site: Path) -> None:
    """A key that is missing, and an `__init__` that raises; every fault of it."""
    write_plugin(site, "counting", COUNTING)
    config = write_config(tmp_path, "[plugins.counting]\nstep = 1\n[plugins.two]\nuse = 'counting'\nx = 1\n")

    found = rows(config)

    cause = "AssertionError: listing makes no instance"
    assert found["counting"]["error"] == f"plugin_counting:Plugin from plugin-counting 1.0: {cause}"
    assert found["two"]["error"].startswith("x: unknown key; known: step, name, enabled, ")
    assert found["two"]["error"].endswith("; step: is missing")
    assert found["two"]["hooks"] == ["on_payment", "checkpoint"]


def test_two_distributions_of_one_name_are_both_listed_as_errors(tmp_path: Path, site: Path) -> None:
    """Either could be meant, so neither can start."""
    write_plugin(site, "twice", COUNTING)
    other = site / "somebody_else-2.5.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: somebody-else\nVersion: 2.5\n")
    (other / "entry_points.txt").write_text("[gateway.plugins]\ntwice = plugin_twice:Plugin\n")

    lines = plugins(write_config(tmp_path), "--json").output.splitlines()

    found = [row for row in map(json.loads, lines) if row["name"] == "twice"]
    assert {row["distribution"] for row in found} == {"plugin-twice", "somebody-else"}
    assert all(row["error"].startswith("the name 'twice' is claimed by ") for row in found)


def test_in_a_pipe_the_table_is_plain_and_aligned(tmp_path: Path) -> None:
    """A header, columns under it, no colours, no lines."""
    output = plugins(write_config(tmp_path, '[plugins.archive]\ndirectory = "a"\n')).stdout
    header, first, *_ = output.splitlines()

    assert header.split() == ["name", "state", "tier", "from", "hooks", "settings"]
    assert header.index("state") == first.index("enabled")
    assert output.isascii()
    assert "\x1b" not in output


def test_the_catalogue_of_bundled_plugins(tmp_path: Path) -> None:
    """Each with what it does, the extra that it needs, and the tier that its tests reach; no config is needed."""
    found = CliRunner().invoke(cli, ["plugins", "--catalogue", "--json", "-c", str(tmp_path / "none.toml")])
    catalogue = {row["name"]: row for row in map(json.loads, found.output.splitlines())}

    assert catalogue["archive"] == {
        "name": "archive",
        "does": "Every event as received, in JSON Lines files, each exactly once.",
        "extra": None,
        "tier": "complete",
    }
    assert {name: row["extra"] for name, row in catalogue.items() if row["extra"] is not None} == {
        name: name for name in ("amqp", "kafka", "mqtt", "nats", "notify", "redis", "s3")
    }
    assert all(row["does"] for row in catalogue.values())
    assert list(catalogue) == sorted(catalogue)


def test_the_catalogue_leaves_out_what_others_publish(tmp_path: Path, site: Path) -> None:
    """And imports nothing: a bundled plugin whose libraries are missing is listed."""
    write_plugin(site, "foreign", COUNTING)
    command = ["plugins", "--catalogue", "-c", str(tmp_path / "none.toml")]

    shown = CliRunner().invoke(cli, command).output
    markdown = CliRunner().invoke(cli, [*command, "--markdown"]).output

    assert "foreign" not in shown
    assert "complete" in shown
    assert markdown.startswith("| plugin | what it does | extra | tier |\n|---|---|---|---|\n")
    assert "| `archive` | Every event as received, in JSON Lines files, each exactly once. | | complete |" in markdown


def test_an_extra_is_that_of_the_entry_point(site: Path) -> None:
    """As `crm = "gateway_crm:Crm [crm]"` in pyproject.toml."""
    write_plugin(site, "crm", '"""Rows in the CRM.\n\nMore."""\nTIER = "safe"\nimport a_library_that_is_missing\n')
    points = site / "plugin_crm-1.0.dist-info" / "entry_points.txt"
    points.write_text("[gateway.plugins]\ncrm = plugin_crm:Plugin [crm]\n")

    [entry] = installed()["crm"]

    assert facts_of(entry) == PackageFacts(does="Rows in the CRM.", extra="crm", tier="safe")


def test_the_tier_stands_beside_the_plugin(tmp_path: Path, site: Path) -> None:
    """In the list and as `tier`; a plugin that states none has none."""
    write_plugin(site, "counting", COUNTING)
    found = rows(write_config(tmp_path, "[plugins.counting]\nstep = 1\n"))

    assert found["archive"]["tier"] == "complete"
    assert "tier" not in found["counting"]


@pytest.mark.parametrize(
    "arguments", [["--markdown"], ["--catalogue", "archive"], ["--catalogue", "--markdown", "--json"]]
)
def test_options_that_exclude_each_other(tmp_path: Path, arguments: list[str]) -> None:
    assert plugins(write_config(tmp_path), *arguments).exit_code == 2
