"""What is to be removed from the plugin contract is told first."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import write_config, write_plugin

from gateway.config.convert import Problem
from gateway.plugin_host import deprecations
from gateway.plugin_host.deprecations import Deprecation
from gateway.preflight import examine_config

PLUGIN = "class Plugin:\n    def on_event(self, event): ...\n    def checkpoint(self): ...\n"


def test_gateway_check_warns_of_what_is_deprecated(tmp_path: Path, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the plugin, the version, the date and what to do; a plugin that does not use it has no warning."""
    write_plugin(site, "old", PLUGIN)
    write_plugin(site, "new", PLUGIN.replace("checkpoint", "forget"))
    config = write_config(tmp_path, "[plugins.old]\n[plugins.new]\n")

    def warnings() -> list[Problem]:
        return [one for one in examine_config(config).warnings if one.path.startswith("plugins.")]

    assert warnings() == []
    rule = Deprecation("checkpoint", (1, 1), "2027-06", "use flush", lambda plugin: "checkpoint" in plugin.hooks)
    monkeypatch.setattr(deprecations, "DEPRECATIONS", (rule,))
    [warning] = warnings()
    assert warning.path == "plugins.old"
    since = "deprecated since version (1, 1) of the plugin contract, and removed not before 2027-06"
    assert warning.message == f"uses checkpoint, {since}: use flush"
