"""The gateways on a journal."""

from __future__ import annotations

import json
from pathlib import Path

from running import eventually, running


def test_a_journal_in_a_file_has_one_gateway(tmp_path: Path) -> None:
    """With its name and version, when it started and was seen, and whose events it delivers."""
    text = '[node]\nname = "east-1"\n[plugins.archive]\ndirectory = "archive"\n[plugins.static_values]\n'
    with running(tmp_path, text) as gateway:
        eventually(lambda: "archive" in gateway.cli("nodes").stdout)
        node = json.loads(gateway.cli("nodes", "--json").stdout)
        assert (node["name"], node["owns"]) == ("east-1", [{"plugin": "archive", "shard": 0}])
        assert node["version"]
        assert node["started_at"] < node["seen_at"]
        gateway.stop()
        stopped = gateway.cli("nodes")
        assert (stopped.returncode, stopped.stdout) == (0, "")
        assert stopped.stderr == f"no gateway runs with {gateway.config.journal.path}\n"
