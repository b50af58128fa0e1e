"""What imports what, and what is public: read from the source, so that a slip is seen before it is a habit."""

from __future__ import annotations

import ast
import inspect
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
PLUGINS = sorted(path.parent.name for path in (ROOT / "plugins").glob("*/__init__.py"))
SERVER_LIBRARIES = {"litestar", "uvicorn", "starlette"}


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
def imports(path: Path) -> list[Import]:
    """Every import statement of a file, those inside of functions too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
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
        ("gateway.events", set()),
        ("gateway.config.field_types", set()),
        ("gateway.hookspecs", {"gateway.events"}),
        ("gateway", {"gateway.events", "gateway.hookspecs", "gateway.config.field_types"}),
    ],
)
def test_border_types_know_nothing_of_the_host(module: str, allowed: set[str]) -> None:
    """What plugin authors import depends on itself only, and on no server."""
    assert set().union(*map(used, imports(GATEWAY[module]))) - {module} == allowed
    assert not libraries(module) & (SERVER_LIBRARIES | {"apsw", "sqlalchemy", "jwt"})


def test_imports_point_one_way() -> None:
    """No two modules need each other, however far around."""
    graph: dict[str, set[str]] = {name: set() for name in GATEWAY}
    for name, found in gateway_imports():
        if not found.typing_only:
            graph[name] |= used(found) - {name}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(reversed(error.args[1]))}")


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        (
            "gateway.journal",
            {"gateway.delivery", "gateway.plugin_host.load", "gateway.values", "gateway.http.receiver", "gateway.cli"},
        ),
        (
            "gateway.delivery",
            {"gateway.http.receiver", "gateway.values", "gateway.http.app", "gateway.http.admin", "gateway.cli"},
        ),
        (
            "gateway.values",
            {"gateway.http.receiver", "gateway.delivery", "gateway.http.app", "gateway.http.admin", "gateway.cli"},
        ),
        (
            "gateway.http.receiver",
            {"gateway.delivery", "gateway.http.app", "gateway.http.admin", "gateway.service", "gateway.cli"},
        ),
        ("gateway.config", {"gateway.plugin_host.load", "gateway.hookspecs", "gateway.journal", "gateway.cli"}),
        ("gateway.http.tokens", {"gateway.http.receiver", "gateway.http.app", "gateway.cli"}),
        ("gateway.http.app", {"gateway.serving", "gateway.cli"}),
        ("gateway.serving", {"gateway.cli"}),
    ],
)
def test_the_way_of_an_event_is_the_order_of_imports(package: str, forbidden: set[str]) -> None:
    """A part does not know those that come after it, nor those beside it."""
    for name, found in gateway_imports():
        if name == package or name.startswith(f"{package}."):
            for module in used(found):
                after = {part for part in forbidden if module == part or module.startswith(f"{part}.")}
                assert not after, f"{name}:{found.line} imports {module}"


def test_only_the_outermost_modules_know_the_servers() -> None:
    """Litestar and uvicorn are in the few modules that serve."""
    knowing = {name for name in GATEWAY if libraries(name) & SERVER_LIBRARIES}
    assert knowing <= {
        "gateway.http.app",
        "gateway.http.admin",
        "gateway.http.access",
        "gateway.serving.listener",
        "gateway.serving.protocol",
        *(name for name in GATEWAY if name.startswith("gateway.dashboard")),
    }


def test_the_core_knows_no_plugin() -> None:
    """Not by import, and not by a list of names."""
    for name, found in gateway_imports():
        assert found.module.partition(".")[0] not in PLUGINS, f"{name}:{found.line} imports {found.module}"
    assert PLUGINS
    for name, path in GATEWAY.items():
        text = path.read_text(encoding="utf-8")
        assert not [plugin for plugin in PLUGINS if plugin in text], name


@pytest.mark.parametrize("plugin", PLUGINS)
def test_bundled_plugins_use_what_is_exported(plugin: str) -> None:
    """Only what `gateway` exports, and no other bundled plugin: they differ from third parties' in nothing."""
    for name, path in modules(ROOT / "plugins" / plugin, ROOT / "plugins").items():
        for found in imports(path):
            top = found.module.partition(".")[0]
            where = f"{name}:{found.line}"
            assert top == plugin or top not in PLUGINS, f"{where} imports {found.module}"
            if top == "gateway":
                assert found.module == "gateway", f"{where} imports {found.module}"
                assert found.names, f"{where} imports the whole of gateway"
                assert set(found.names) <= set(gateway.__all__), f"{where} imports {found.names}"


def test_what_gateway_exports() -> None:
    """`__all__` is sorted, and is exactly what can be imported from there."""
    public = {
        name
        for name, value in vars(gateway).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert gateway.__all__ == sorted(gateway.__all__)
    assert set(gateway.__all__) == public


def test_every_hook_is_documented() -> None:
    """With when it is called, and what becomes of it if it raises or what its arguments mean; typed throughout."""
    for name in HOOK_NAMES:
        hook = getattr(hookspecs.Hooks, name)
        signature = inspect.signature(hook)
        assert inspect.getdoc(hook), name
        assert signature.return_annotation is not inspect.Signature.empty
        assert all(p.annotation is not p.empty for p in list(signature.parameters.values())[1:])


@pytest.mark.parametrize("name", GATEWAY)
def test_every_module_says_what_it_is(name: str) -> None:
    """A docstring at the top, a size that one can read, no application made on import."""
    text = GATEWAY[name].read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert ast.get_docstring(tree), name
    assert len(text.splitlines()) <= 600
    values = [node.value for node in tree.body if isinstance(node, ast.Assign)]
    made = [ast.unparse(value.func) for value in values if isinstance(value, ast.Call)]
    assert not {"Litestar", "FastAPI", "create_app"} & set(made)


def test_a_class_name_stands_for_one_class() -> None:
    """No two classes of the gateway share a name, so a name in a traceback, a log line or a search means one thing."""
    places: dict[str, list[str]] = {}
    for module, path in GATEWAY.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(module)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
