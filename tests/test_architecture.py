"""What imports what, and what is public, read from the source."""

from __future__ import annotations

import ast
import inspect
import re
import types
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import gateway
from gateway import hookspecs
from gateway.plugin_host.bind import HOOK_NAMES

ROOT = Path(gateway.__file__).parent.parent
SHARED = {"gateway_brokers", "gateway_connections", "gateway_databases"}
"""Packages beside the plugins that several of them use, as a third party's may."""
PLUGINS = sorted(path.parent.name for path in (ROOT / "plugins").glob("*/__init__.py"))
LAYERS = (
    "gateway.large_bodies",
    "gateway.json_text",
    "gateway.events",
    "gateway.selector",
    "gateway.text",
    "gateway.address",
    "gateway.decoding",
    "gateway.config",
    "gateway.plugin_metrics",
    "gateway.hookspecs",
    "gateway",
    "gateway.log",
    "gateway.metrics",
    "gateway.rates",
    "gateway.unknown",
    "gateway.plugin_host",
    "gateway.journal",
    "gateway.tracing",
    "gateway.delivery",
    "gateway.values",
    "gateway.sentences",
    "gateway.monitoring",
    "gateway.notices",
    "gateway.process",
    "gateway.drift",
    "gateway.samples",
    "gateway.forgetting",
    "gateway.operations",
    "gateway.http",
    "gateway.service",
    "gateway.permissions",
    "gateway.preflight",
    "gateway.reload",
    "gateway.http.app",
    "gateway.http.api",
    "gateway.http.dashboard",
    "gateway.http.admin",
    "gateway.serving",
    "gateway.simulate",
    "gateway.testing",
    "gateway.pytest_plugin",
    "gateway.cli",
)
"""The parts of the gateway in the order in which they may import each other."""
ROOT_PARTS = {
    *("__init__", "hookspecs", "events"),
    *("config", "plugin_host", "http", "journal", "delivery", "values", "serving", "cli", "testing"),
    *(
        "service",
        "reload",
        "log",
        "metrics",
        "samples",
        "tracing",
        "decoding",
        "simulate",
        "text",
        "large_bodies",
        "address",
        "json_text",
        "permissions",
        "preflight",
        "unknown",
        "selector",
        "forgetting",
        "operations",
        "drift",
        "monitoring",
        "notices",
        "sentences",
        "process",
        "pytest_plugin",
        "rates",
        "plugin_metrics",
    ),
}
LIBRARIES = {
    "litestar": ("gateway.http", "gateway.serving"),
    "uvicorn": ("gateway.serving",),
    "httptools": ("gateway.serving",),
    "apsw": ("gateway.journal",),
    "sqlite3": ("gateway.cli.init",),
    "jinja2": ("gateway.http.dashboard.rendering",),
    "jwt": ("gateway.http.tokens",),
    "click": ("gateway.cli",),
    "opentelemetry": ("gateway.tracing",),
    "rich": ("gateway.cli",),
    "pytest": ("gateway.pytest_plugin",),
    "cel_expr_python": ("gateway.plugin_host.where.engine",),
}
"""Libraries, and the parts of the gateway that import them."""
LARGEST = 300
"""Lines of a module."""


class Import(NamedTuple):
    """`module` is absolute; `names` are those taken from it (empty: the module itself)."""

    module: str
    names: tuple[str, ...]
    line: int
    typing_only: bool


def modules(folder: Path, base: Path) -> dict[str, Path]:
    """Every module below a folder by its dotted name."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(base).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path) -> list[Import]:
    """Every import statement of a file, those inside of functions too."""
    tree = parsed(path)
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, (), node.lineno, id(node) in guarded) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            names = tuple(alias.name for alias in node.names)
            found.append(Import(str(node.module), names, node.lineno, id(node) in guarded))
    return found


GATEWAY = modules(ROOT / "gateway", ROOT)


def used(found: Import) -> set[str]:
    """The modules of the gateway that an import statement runs."""
    inner = {f"{found.module}.{name}" for name in found.names} & GATEWAY.keys()
    whole = bool(set(found.names) - {name.rpartition(".")[2] for name in inner}) or not found.names
    return inner | ({found.module} & GATEWAY.keys() if whole else set())


def libraries(name: str) -> set[str]:
    return {found.module.partition(".")[0] for found in imports(GATEWAY[name])}


def gateway_imports() -> Iterator[tuple[str, Import]]:
    for name, path in GATEWAY.items():
        for found in imports(path):
            yield name, found


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("gateway.large_bodies", set()),
        ("gateway.json_text", {"gateway.large_bodies"}),
        ("gateway.events", {"gateway.json_text"}),
        ("gateway.config.field_types", set()),
        ("gateway.selector", {"gateway.events", "gateway.json_text"}),
        ("gateway.plugin_metrics", set()),
        ("gateway.hookspecs", {"gateway.events", "gateway.plugin_metrics", "gateway.selector"}),
        (
            "gateway",
            {
                "gateway.events",
                "gateway.selector",
                "gateway.hookspecs",
                "gateway.config.field_types",
                "gateway.plugin_metrics",
            },
        ),
    ],
)
def test_border_types_know_nothing_of_the_host(module: str, allowed: set[str]) -> None:
    """What plugin authors import depends on itself only, and on no server."""
    assert set().union(*map(used, imports(GATEWAY[module]))) - {module} == allowed
    assert not libraries(module) & LIBRARIES.keys()


def test_imports_point_one_way() -> None:
    """No module imports itself by way of others."""
    graph: dict[str, set[str]] = {name: set() for name in GATEWAY}
    for name, found in gateway_imports():
        if not found.typing_only:
            graph[name] |= used(found) - {name}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(reversed(error.args[1]))}")


def layer(module: str) -> str:
    """The entry of `LAYERS` that a module belongs to: the longest that it is or lies below."""
    return max((entry for entry in LAYERS if f"{module}.".startswith(f"{entry}.")), key=len)


def test_the_way_of_an_event_is_the_order_of_imports() -> None:
    """A part imports the parts before it, not those after it, but for types."""
    for name, found in gateway_imports():
        for module in used(found) if not found.typing_only else ():
            here, there = LAYERS.index(layer(name)), LAYERS.index(layer(module))
            assert there <= here, f"{name}:{found.line} imports {module}, which is a later part"


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("gateway.values", "gateway.delivery"),
        ("gateway.http.receiver", "gateway.delivery"),
        ("gateway.http.tokens", "gateway.journal"),
        ("gateway.http.body", "gateway.journal"),
        ("gateway.serving.supervisor", "gateway.config"),
        ("gateway.serving.supervisor", "gateway.service"),
        ("gateway.serving.supervisor", "gateway.http"),
    ],
)
def test_parts_beside_each_other_do_not_know_each_other(part: str, other: str) -> None:
    """Delivery goes on without questions and questions are answered without delivery; the supervisor imports nothing
    of the application."""
    for name, found in gateway_imports():
        if f"{name}.".startswith(f"{part}."):
            known = {module for module in used(found) if f"{module}.".startswith(f"{other}.")}
            assert not known, f"{name}:{found.line} imports {known}"


@pytest.mark.parametrize(("library", "packages"), LIBRARIES.items())
def test_a_library_is_known_to_few(library: str, packages: tuple[str, ...]) -> None:
    """The server only to what serves, the engine only to the journal."""
    for name in GATEWAY:
        if library in libraries(name):
            assert any(f"{name}.".startswith(f"{package}.") for package in packages), f"{name} imports {library}"


def test_the_root_shows_the_parts() -> None:
    """The packages in which the parts are, what plugin authors read, and a few modules that several parts use."""
    found = {
        path.stem for path in (ROOT / "gateway").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert found <= ROOT_PARTS, found - ROOT_PARTS


def test_only_the_journal_knows_its_engine() -> None:
    """The database is named below `gateway/journal/sqlite/` only: outside of it where the journal imports the engine,
    and where `init` makes its sample database."""
    for name, path in GATEWAY.items():
        text = path.read_text(encoding="utf-8").lower()
        if name.startswith("gateway.journal.sqlite") or name == "gateway.cli.init":
            continue
        allowed = r"from gateway\.journal\.sqlite\.\w+ import .*|sqlitejournal" if name == "gateway.journal" else r"$^"
        named = [line for line in re.sub(allowed, "", text).splitlines() if "sqlite" in line or "apsw" in line]
        assert not named, f"{name}: {named[0]}"


def test_the_core_knows_no_plugin() -> None:
    """The core neither imports a bundled plugin nor has its name."""
    for name, found in gateway_imports():
        assert found.module.partition(".")[0] not in PLUGINS, f"{name}:{found.line} imports {found.module}"
    assert PLUGINS
    for name, path in GATEWAY.items():
        text = path.read_text(encoding="utf-8")
        assert not [plugin for plugin in PLUGINS if plugin in text], name


@pytest.mark.parametrize("plugin", PLUGINS)
def test_bundled_plugins_use_what_is_exported(plugin: str) -> None:
    """They import what `gateway` exports and nothing else of it, and no other plugin, as a third party's would; a
    package that plugins share is used by its public names."""
    for name, path in modules(ROOT / "plugins" / plugin, ROOT / "plugins").items():
        for found in imports(path):
            top = found.module.partition(".")[0]
            where = f"{name}:{found.line}"
            assert top == plugin or top not in {*PLUGINS} - SHARED, f"{where} imports {found.module}"
            if top == "gateway":
                assert found.module == "gateway", f"{where} imports {found.module}"
                assert found.names, f"{where} imports the whole of gateway"
                assert set(found.names) <= set(gateway.__all__), f"{where} imports {found.names}"
            if top in SHARED - {plugin}:
                assert found.module == top, f"{where} imports {found.module}"


def test_what_gateway_exports() -> None:
    """`__all__` is sorted, and lists what can be imported from there."""
    public = {
        name
        for name, value in vars(gateway).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert gateway.__all__ == sorted(gateway.__all__)
    assert set(gateway.__all__) == public


def test_every_hook_is_documented() -> None:
    """Each hook has a docstring, and types for its arguments and its result."""
    for name in HOOK_NAMES:
        hook = getattr(hookspecs.Hooks, name)
        signature = inspect.signature(hook)
        assert inspect.getdoc(hook), name
        assert signature.return_annotation is not inspect.Signature.empty
        assert all(p.annotation is not p.empty for p in list(signature.parameters.values())[1:])


def test_every_module_says_what_it_is() -> None:
    """A module begins with a docstring, has at most `LARGEST` lines, and makes no application when it is imported."""
    for name, path in GATEWAY.items():
        tree = parsed(path)
        assert ast.get_docstring(tree), name
        assert len(path.read_text(encoding="utf-8").splitlines()) <= LARGEST, name
        values = [node.value for node in tree.body if isinstance(node, ast.Assign)]
        made = [ast.unparse(value.func) for value in values if isinstance(value, ast.Call)]
        assert not {"Litestar", "FastAPI", "create_app"} & set(made), name


def test_a_class_name_stands_for_one_class() -> None:
    """No two classes of the gateway share a name, so a name in a traceback, a log line or a search means one thing."""
    places: dict[str, list[str]] = {}
    for module, path in GATEWAY.items():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(module)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
