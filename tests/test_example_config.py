"""The repository's `config.toml`: complete, commented, and what it says of a default is true."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tomli

from gateway.cli.init import example, init
from gateway.config.bounded_types import NodeName
from gateway.config.load import load_config
from gateway.config.tables import (
    AdminSettings,
    Config,
    DeliverySettings,
    FieldSettings,
    HookSettings,
    JournalSettings,
    LogSettings,
    NodeSettings,
    OrganisationSettings,
    PluginSettings,
    ServerSettings,
    TlsSettings,
    ValuesSettings,
)
from gateway.plugin_host.load import load_plugins
from gateway.plugin_host.settings import settings_of
from gateway.plugin_host.sources import config_of

EXAMPLE = example().decode()
COMMENTED_KEY = re.compile(r"^#(\w+ = .*|\[.*)$", re.MULTILINE)
# A value stands there as an example where leaving the key out is the default.
EXAMPLES_ONLY = {
    "server": {"tls"},
    "admin": {"password", "viewer_password", "tls"},
    "values": {"fields"},
    "organisations.acme": {"secrets", "issued_after"},
    "hooks.payment": {"types", "retention"},
}
# These stand there after `# `: they cannot be used together with the keys above them.
IN_PLACE_OF_OTHERS = {"journal": {"url", "password", "ca", "require_standby"}}


def uncommented() -> str:
    """The example with every `#key = value` switched on."""
    return COMMENTED_KEY.sub(r"\1", EXAMPLE)


@pytest.fixture
def complete(tmp_path: Path) -> Config:
    """The example with all of its keys, and the files that these name."""
    init(tmp_path / "config.toml")
    (tmp_path / "config.toml").write_text(uncommented())
    for name in (
        "admin.password",
        "viewer.password",
        "database.password",
        "forward.secret",
        "broker.password",
        "s3.secret",
        "chat.url",
        "mail.password",
        "forward.old",
    ):
        (tmp_path / "var" / name).write_text(f"a password: {name}")
    (tmp_path / "ledger.py").write_text("class Ledger:\n    def on_payment(self, event, payload): ...\n")
    (tmp_path / "ledger.py").chmod(0o600)
    return load_config(tmp_path / "config.toml")


def test_the_example_loads_with_its_plugins(tmp_path: Path) -> None:
    """As `gateway init` leaves it: logging, archive and sql_values are on."""
    init(tmp_path / "config.toml")

    plugins = load_plugins(load_config(tmp_path / "config.toml"))

    assert [plugin.name for plugin in plugins] == ["logging", "archive", "sql_values"]


def test_the_example_loads_with_every_key_switched_on(complete: Config) -> None:
    """Whoever takes a `#` away gets a config that is sound, also in the plugins' own tables."""
    assert len(load_plugins(complete)) == len(tomli.loads(uncommented())["plugins"]) > 12


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("node", NodeSettings),
        ("server", ServerSettings),
        ("server.tls", TlsSettings),
        ("admin", AdminSettings),
        ("admin.tls", TlsSettings),
        ("journal", JournalSettings),
        ("delivery", DeliverySettings),
        ("values", ValuesSettings),
        ("values.fields.balance", FieldSettings),
        ("log", LogSettings),
        ("organisations.acme", OrganisationSettings),
        ("hooks.payment", HookSettings),
    ],
)
def test_every_key_is_in_the_example(path: str, kind: type[msgspec.Struct]) -> None:
    """Every key of the config is in it."""
    table: Any = tomli.loads(uncommented())
    for name in path.split("."):
        table = table[name]

    others = IN_PLACE_OF_OTHERS.get(path, set())
    assert table.keys() == {field.encode_name for field in msgspec.structs.fields(kind)} - others
    assert {key for key in others if re.search(rf"^# {key} = ", EXAMPLE, re.MULTILINE)} == others


@pytest.mark.parametrize("name", ["nats", "amqp", "redis", "mqtt", "kafka", "forward", "exec", "notify", "archive"])
def test_every_key_of_a_bundled_plugin_is_in_its_table(name: str) -> None:
    """Switched on, or named beside the key that it cannot be used with."""
    table = re.split(rf"^#?\[plugins\.{name}\]", EXAMPLE, flags=re.MULTILINE)[1]
    table = re.split(rf"^(?!#?\[plugins\.{name}\.)#?\[|\n\n", table, flags=re.MULTILINE)[0]

    for one in settings_of(plugin_config(name)):
        assert re.search(rf"\b{one.key.rpartition('.')[2]}\b", table), one.key


@pytest.mark.parametrize("name", ["nats", "amqp", "redis", "mqtt", "kafka", "forward", "exec", "notify"])
def test_what_a_bundled_plugins_table_calls_a_default_is_one(name: str) -> None:
    """`#in_flight = 1000` means that 1000 is what one gets without it, unless a default is said to be another."""
    found = tomli.loads(uncommented())["plugins"][name]
    defaults = {
        one.key: tomli.loads(f"x = {one.default}")["x"] for one in settings_of(plugin_config(name)) if one.default
    }

    assert {key: found[key] for key in found.keys() & defaults} == {
        key: defaults[key] for key in found.keys() & defaults
    }


def plugin_config(name: str) -> type[msgspec.Struct]:
    """The struct of a bundled plugin's table."""
    [entry] = entry_points(group="gateway.plugins", name=name)
    return config_of(entry.load())


def test_every_key_of_a_plugins_table_is_explained() -> None:
    """Those that are the gateway's own, beside the plugin's."""
    comment = EXAMPLE.partition("# Plugins: a table")[2].partition("[plugins.logging]")[0]

    for field in msgspec.structs.fields(PluginSettings):
        assert re.search(rf"\b{field.encode_name}\b", comment), field.encode_name


def test_what_the_example_calls_a_default_is_one(complete: Config) -> None:
    """`#port = 8080` means that 8080 is what one gets without it."""
    documented = {
        "node": (complete.node, NodeSettings(name=NodeName("gateway-1"))),
        "server": (complete.server, ServerSettings()),
        "admin": (complete.admin, AdminSettings()),
        "journal": (complete.journal, JournalSettings(path=complete.directory / "var/journal.db")),
        "delivery": (complete.delivery, DeliverySettings()),
        "values": (complete.values, ValuesSettings()),
        "log": (complete.log, LogSettings()),
        "organisations.acme": (complete.organisations["acme"], OrganisationSettings(secrets=())),
        "hooks.payment": (complete.hooks["payment"], HookSettings()),
    }
    for path, (found, default) in documented.items():
        for name in found.__struct_fields__:
            if name not in EXAMPLES_ONLY.get(path, set()):
                assert getattr(found, name) == getattr(default, name), f"{path}.{name}"


def test_the_example_date_is_read(complete: Config) -> None:
    """TOML's own date and time, with its zone."""
    assert complete.organisations["acme"].issued_after == datetime(2026, 1, 1, tzinfo=UTC)


def test_no_line_is_too_wide() -> None:
    """It is read in terminals."""
    assert max(map(len, EXAMPLE.splitlines())) <= 120
