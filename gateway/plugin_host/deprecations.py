"""What of the contract is to be removed, and which plugins use it: `gateway check` warns of it.

A removal comes after two minor releases and six months, and raises the first number of the contract.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from gateway.config.convert import Problem, dotted
from gateway.plugin_host.load import Plugin


class Deprecation(NamedTuple):
    """`what` is deprecated since a version of the contract, and not removed before `removed` (a date such as
    2027-06); `instead` says what to do. `uses` tells whether a plugin uses it."""

    what: str
    since: tuple[int, int]
    removed: str
    instead: str
    uses: Callable[[Plugin], bool]


DEPRECATIONS: Final[tuple[Deprecation, ...]] = ()
"""Nothing is deprecated in version (1, 1)."""


def deprecated(plugin: Plugin) -> Iterator[Problem]:
    """A warning for each deprecated thing that a plugin uses."""
    for one in DEPRECATIONS:
        if one.uses(plugin):
            since = f"deprecated since version {one.since} of the plugin contract, and removed not before {one.removed}"
            yield Problem(dotted("plugins", plugin.name), f"uses {one.what}, {since}: {one.instead}")
