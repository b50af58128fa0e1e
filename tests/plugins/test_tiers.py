"""Each bundled plugin reaches the tier that it states, with a real target."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from gateway_archive import ArchivePlugin
from gateway_http_values import HttpValuesPlugin
from gateway_logging import LoggingPlugin
from gateway_sql_values import SqlValuesPlugin
from gateway_static_values import StaticValuesPlugin
from tiers import archive, logging, require_tier, rest_service, sql_values, static_values

from gateway.plugin_host.sources import installed
from gateway.testing import PluginCase

pytestmark = pytest.mark.timeout(400)  # on a busy machine

HERE = Path(__file__).parent


@pytest.mark.parametrize(
    ("plugin", "case"),
    [
        (ArchivePlugin, archive),
        (LoggingPlugin, logging),
        (SqlValuesPlugin, sql_values),
        (StaticValuesPlugin, static_values),
    ],
    ids=lambda one: one.__name__,
)
def test_the_tier_is_reached(plugin: type, case: Callable[[Path], PluginCase]) -> None:
    require_tier(plugin, case)


def test_the_tier_is_reached_with_a_service() -> None:
    with rest_service() as case:
        require_tier(HttpValuesPlugin, case)


def test_no_tier_is_stated_without_a_test() -> None:
    """A bundled plugin whose package states a TIER is the argument of `require_tier` in a test of this folder, or
    in the kit of one."""
    packages = {path.parent.name: path for path in (HERE.parents[1] / "plugins").glob("*/__init__.py")}
    stating = {name for name, path in packages.items() if _states_a_tier(path)}
    classes = {
        entry.value.partition(":")[0]: entry.value.partition(":")[2].partition(" ")[0]
        for entries in installed().values()
        for entry in entries
    }
    tests = "".join(path.read_text() for path in HERE.glob("test_*.py") if "require_tier" in path.read_text())
    kits = "".join(
        (HERE / f"{name}.py").read_text() for name in re.findall(r"^from (\w+_kit) import", tests, re.MULTILINE)
    )
    tested = tests + kits
    assert stating
    assert [name for name in sorted(stating) if classes[name] not in tested] == []


def _states_a_tier(path: Path) -> bool:
    names = [node.targets[0] for node in ast.parse(path.read_text()).body if isinstance(node, ast.Assign)]
    return any(isinstance(name, ast.Name) and name.id == "TIER" for name in names)
