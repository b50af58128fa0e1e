"""Prints the reference of the configuration, made from its tables. `make docs-reference` writes it into its page."""

from __future__ import annotations

import sys
from typing import Final

import msgspec

from gateway.cli.plugin_settings import markdown
from gateway.config import tables
from gateway.plugin_host.settings import Setting, settings_of

SECTIONS: Final[tuple[tuple[str, str, type[msgspec.Struct]], ...]] = (
    ("node", "What this gateway is called.", tables.NodeSettings),
    ("server", "The public listener, to which the callback URL leads that you give Webio.", tables.ServerSettings),
    ("admin", "The admin listener: dashboard, API, health and metrics.", tables.AdminSettings),
    ("journal", "The log of all events, on disk.", tables.JournalSettings),
    (
        "delivery",
        "How events are delivered to plugins. Each plugin's table may set any of these keys for that plugin.",
        tables.DeliverySettings,
    ),
    ("values", "The custom values that bots ask for; see [custom values](custom-values.md).", tables.ValuesSettings),
    ("log", "The gateway's log, on standard error.", tables.LogSettings),
    ("tracing", "Traces by OpenTelemetry; see [operations](operations.md#traces).", tables.TracingSettings),
    ("organisations.NAME", "One table for each organisation of Webio's.", tables.OrganisationSettings),
    ("hooks.NAME", "One table for a hook, such as `[hooks.payment]`.", tables.HookSettings),
    (
        "plugins.NAME",
        "One table for each plugin. It has the plugin's own keys, which `gateway plugins NAME` and"
        " [its page](plugins-bundled) list, and may have these:",
        tables.PluginSettings,
    ),
)
INTRODUCTION: Final = """\
# Configuration reference

Made from the code by `make docs-reference`: change the descriptions there.
[`config.toml`](../config.toml) is the commented example, which runs unchanged after `gateway init`. `gateway check`
names every fault.

Unknown keys are errors. Relative paths are relative to the config file. A *duration* is written `"250ms"`, `"30s"`,
`"5m"`, `"24h"` or `"30d"`, a *size* `"512 KiB"` or `"1 GiB"`. A *secret* is never in the file: write
`{ file = "path" }` or `{ env = "NAME" }`. A *network* is an address or a network, such as `"10.0.0.0/8"`. A key that
has no default and is not required is not set. `NAME` is any name, and `[]` is each table of an array.
"""


def page() -> str:
    """The whole page. `ValueError` where a key has no description."""
    parts = [INTRODUCTION]
    for name, about, struct in SECTIONS:
        settings = [_shown(one) for one in settings_of(struct)]
        for one in settings:
            if not one.meaning:
                raise ValueError(f"[{name}] {one.key}: has no description; add one in gateway/config/tables.py")
        parts.append(f"\n## [{name}]\n\n{about}\n\n{markdown(settings)}")
    return "".join(parts)


def _shown(setting: Setting) -> Setting:
    """Without a default that differs from machine to machine: its meaning has it in words."""
    return msgspec.structs.replace(setting, default=None) if setting.type == "node name" else setting


if __name__ == "__main__":
    sys.stdout.write(page())
