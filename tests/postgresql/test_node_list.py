"""Several gateways on one journal: which there are, what each delivers, and in what they differ."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from running import RunningGateway, eventually, running
from schemas import Schema

from gateway.config.tables import Config
from gateway.journal.postgresql.layout import LAYOUT

PLUGIN = """
    import os
    import time
    from gateway import Event, hookimpl

    class Plugin:
        @hookimpl
        def on_event(self, event: Event) -> None:
            while "WAIT_FOR" in os.environ and not os.path.exists(os.environ["WAIT_FOR"]):
                time.sleep(0.02)
"""


def text(schema: Schema, name: str, crm: str = "shards = 2") -> str:
    """A config of a gateway of this name."""
    return f'[journal]\nurl = "{schema.url}"\n[node]\nname = "{name}"\n[plugins.crm]\nfrom = "start"\n{crm}\n'


def answer(gateway: RunningGateway, path: str) -> Any:
    """What the admin listener answers, for those who have the password."""
    config: Config = gateway.config
    headers = {}
    if config.admin.password is not None:
        password = str(config.admin.password.value)
        headers["authorization"] = "Basic " + base64.b64encode(f"test:{password}".encode()).decode("ascii")
    with urlopen(Request(f"{gateway.admin_url}{path}", headers=headers), timeout=30) as response:
        return json.load(response)


def disagreements(gateway: RunningGateway) -> list[str]:
    found: list[str] = answer(gateway, "/health/ready")["disagreements"]
    return found


def listed(gateway: RunningGateway) -> dict[str, list[tuple[str, int, int]]]:
    """What `gateway nodes` says: by name, the plugin, the shard, and how far behind it is."""
    lines = gateway.cli("nodes", "--json").stdout.splitlines()
    return {
        node["name"]: [(one["plugin"], one["shard"], one["behind"]) for one in node["owns"]]
        for node in map(json.loads, lines)
    }


def warnings(gateway: RunningGateway) -> list[str]:
    """The warnings of `gateway check` about the journal."""
    found = json.loads(gateway.cli("check", "--json").stdout)["warnings"]
    return [one["message"] for one in found if one["path"] == "journal.url"]


def test_every_gateway_lists_all_and_what_they_own(schema: Schema, tmp_path: Path) -> None:
    """By the command and the API of either; and by the command where none runs, from the database."""
    with (
        running(tmp_path / "one", text(schema, "one"), plugins={"crm": PLUGIN}) as one,
        running(tmp_path / "two", text(schema, "two"), plugins={"crm": PLUGIN}) as two,
    ):
        eventually(lambda: sorted(len(owned) for owned in listed(one).values()) == [1, 1])
        assert sorted(listed(one)) == ["one", "two"]
        assert listed(two) == listed(one)
        for gateway in (one, two):
            nodes = answer(gateway, "/api/nodes")
            assert [node["name"] for node in nodes] == ["one", "two"]
            assert {node["layout"] for node in nodes} == {LAYOUT}
            assert sorted(owned["shard"] for node in nodes for owned in node["owns"]) == [0, 1]
            assert {owned["shards"] for node in nodes for owned in node["owns"]} == {2}
            assert nodes[0]["started_at"] <= nodes[0]["seen_at"]
        assert "of 2)" in two.cli("nodes").stdout
        assert (warnings(one), answer(two, "/health/ready")["disagreements"]) == ([], [])

        assert one.stop() == 0
        eventually(lambda: {name: len(owned) for name, owned in listed(one).items()} == {"two": 2})
    stopped = one.cli("nodes")
    assert (stopped.returncode, stopped.stdout) == (0, "")
    assert stopped.stderr == "no gateway runs with the database of journal.url\n"


def test_it_is_told_how_far_a_plugin_is_behind(schema: Schema, tmp_path: Path) -> None:
    """In positions behind the newest event, as its cursor in the database is."""
    place = tmp_path / "go on"
    with running(
        tmp_path, text(schema, "one", ""), plugins={"crm": PLUGIN}, environment={"WAIT_FOR": str(place)}
    ) as gateway:
        eventually(lambda: listed(gateway) == {"one": [("crm", 0, 0)]})
        with gateway.client() as client:
            for number in range(3):
                assert client.post(json.dumps({"type": "payment", "n": number}).encode(), "payment").status == 200
        assert listed(gateway) == {"one": [("crm", 0, 3)]}
        assert "crm (3 behind)" in gateway.cli("nodes").stdout
        place.touch()
        eventually(lambda: listed(gateway) == {"one": [("crm", 0, 0)]})


def test_two_of_one_name_are_told(schema: Schema, tmp_path: Path) -> None:
    """By `gateway check`, the status and health, which stays ready. Each knows its own row by its identity."""
    with (
        running(tmp_path / "one", text(schema, "same"), plugins={"crm": PLUGIN}) as one,
        running(tmp_path / "two", text(schema, "same"), plugins={"crm": PLUGIN}) as two,
    ):
        for gateway in (one, two):
            eventually(lambda: len(disagreements(one)) == len(disagreements(two)) == 1)
            ready = answer(gateway, "/health/ready")
            assert ready["ready"]
            [sentence] = ready["disagreements"]
            assert sentence.startswith("two gateways have the name same, one since 20")
            assert sentence.endswith(" UTC: give each its own `name` in [node]")
            status = answer(gateway, "/api/status")
            assert (status["ok"], status["problems"]) == (False, ["T" + sentence[1:]])
            assert warnings(gateway) == [sentence]
        eventually(lambda: [len(node["owns"]) for node in answer(one, "/api/nodes")] == [1, 1])


def test_configs_that_differ_are_told(schema: Schema, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Organisations and plugins, in one sentence for each; paths may differ."""
    monkeypatch.setenv("OTHER", "0123456789abcdef" * 4)
    first = 'shards = 2\n[plugins.archive]\ndirectory = "here"\n'
    second = 'shards = 4\nwhere = "event.hook == \'payment\'"\n[plugins.archive]\ndirectory = "there"\n'
    third = '[plugins.static_values]\n[organisations.other]\nsecrets = [{ env = "OTHER" }]\n'
    with (
        running(tmp_path / "one", text(schema, "one", first), plugins={"crm": PLUGIN}) as one,
        running(tmp_path / "two", text(schema, "two", second + third), plugins={"crm": PLUGIN}) as two,
    ):
        same = "give both the same config"
        expected = [
            f"the organisation other is in the config of the gateway two, and not in that of one: {same}",
            "the gateways one and two differ in the plugin crm, in `where`, `shards` (2 and 4): give both the same",
            f"the plugin static_values is in the config of the gateway two, and not in that of one: {same}",
        ]
        for gateway in (one, two):
            eventually(lambda: disagreements(one) == disagreements(two) == expected)
            assert answer(gateway, "/health/ready")["ready"]
            assert warnings(gateway) == expected


def test_other_layouts_and_versions_are_told(schema: Schema, tmp_path: Path) -> None:
    """Versions as what an upgrade has for a while: the status remains well."""
    with running(tmp_path, text(schema, "one", ""), plugins={"crm": PLUGIN}) as gateway:
        [(about,)] = schema.execute("SELECT about::text FROM nodes")
        [(version,)] = schema.execute("SELECT version FROM nodes")
        row = "gen_random_uuid(), 'two', now(), '99.0', {}, '{}'::jsonb"
        schema.execute(
            f"INSERT INTO nodes (id, name, beat_at, version, layout, about) VALUES ({row.format(LAYOUT, about)})"
        )

        def told() -> list[str]:
            schema.execute("UPDATE nodes SET beat_at = clock_timestamp() WHERE name = 'two'")  # it runs
            return disagreements(gateway)

        sentence = f"the gateways one and two are of the versions {version} and 99.0: bring both to the newer one"
        eventually(lambda: told() == [sentence])
        assert answer(gateway, "/api/status")["ok"]

        schema.execute("UPDATE nodes SET layout = layout + 1 WHERE name = 'two'")
        layouts = f"{LAYOUT} (version {version}) and {LAYOUT + 1} (version 99.0)"
        sentence = f"the gateways one and two work with the layouts {layouts} of the journal: bring both to the newer"
        eventually(lambda: told() == [f"{sentence} version"])
        assert not answer(gateway, "/api/status")["ok"]
        assert answer(gateway, "/health/ready")["ready"]
