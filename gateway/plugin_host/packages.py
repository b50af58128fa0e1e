"""What the package of a plugin says of it, read without importing it: the libraries that it needs may be missing."""

from __future__ import annotations

import ast
import importlib.util
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Final

import msgspec

from gateway.plugin_host.sources import Source, distribution_of

TIER: Final = "TIER"
_GATEWAY: Final = "webio-gateway"


class PackageFacts(msgspec.Struct, frozen=True, kw_only=True):
    """`does` is the first line of its docstring, `extra` the extra of the distribution that installs what it needs, and
    `tier` the checks of `gateway.testing` that its tests pass; each None where the package does not say."""

    does: str | None = None
    extra: str | None = None
    tier: str | None = None


def facts_of(source: Source) -> PackageFacts:
    """What the top-level package of an entry point says; nothing for a file."""
    if not isinstance(source, EntryPoint):
        return PackageFacts()
    extra = next(iter(source.extras), None)
    try:
        spec = importlib.util.find_spec(source.module.partition(".")[0])
        if spec is None or spec.origin is None:
            return PackageFacts(extra=extra)
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError, ImportError):
        return PackageFacts(extra=extra)
    does = (ast.get_docstring(tree) or "").partition("\n")[0].strip()
    return PackageFacts(does=does or None, extra=extra, tier=_constant(tree, TIER))


def is_bundled(source: Source) -> bool:
    """Whether it comes with the gateway."""
    return distribution_of(source)[0] == _GATEWAY


def _constant(tree: ast.Module, name: str) -> str | None:
    for node in tree.body:
        if (
            isinstance(node, ast.Assign)
            and any(isinstance(target, ast.Name) and target.id == name for target in node.targets)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            return node.value.value
    return None
