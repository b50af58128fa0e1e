"""`gateway plugins`: what is installed, and what is enabled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from running import write_config, write_plugin

from gateway.cli import cli

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
    """The config names it, and nobody has it."""
    config = write_config(tmp_path, "[plugins.crm]\n")

    assert rows(config)["crm"]["error"] == "no plugin 'crm' is installed"
    assert "crm: no plugin 'crm' is installed\n" in plugins(config).stderr


def test_without_a_config_what_is_installed_is_listed(tmp_path: Path) -> None:
    """Before `gateway init`, too; nothing is enabled then."""
    found = rows(tmp_path / "config.toml")

    assert {"archive", "logging", "sql_values"} <= found.keys()
    assert not any(row["enabled"] for row in found.values())


def test_in_a_pipe_the_table_is_plain_and_aligned(tmp_path: Path) -> None:
    """A header, columns under it, no colours, no lines."""
    output = plugins(write_config(tmp_path, '[plugins.archive]\ndirectory = "a"\n')).stdout
    header, first, *_ = output.splitlines()

    assert header.split() == ["name", "state", "from", "hooks", "settings"]
    assert header.index("state") == first.index("enabled")
    assert output.isascii()
    assert "\x1b" not in output
