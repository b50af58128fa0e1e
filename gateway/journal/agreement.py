"""In what the gateways on one journal differ. Each tells the others of its config by `about`, which
`gateway.plugin_host.config_summary` makes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

_SHOWN: Final = ("version", "shards")
"""What of a plugin is short enough to be told."""


class Peer(NamedTuple):
    """A gateway that runs, as its row in the journal has it; its last beat was `age` seconds old."""

    identity: UUID
    name: str
    version: str
    layout: int
    started_at: datetime
    beat_at: datetime
    about: Mapping[str, Any]
    age: float = 0.0


class Disagreement(NamedTuple):
    """A sentence that names two gateways and in what they differ. `expected` is whether that is a step of an upgrade,
    rather than a fault."""

    sentence: str
    expected: bool = False


def disagreements(peers: Sequence[Peer]) -> list[Disagreement]:
    """Compare all gateways with the one that runs longest. One that has not been seen since another one started may
    have been replaced by it, and does not count."""
    newest = max((peer.started_at for peer in peers), default=None)
    here = [peer for peer in peers if newest is not None and max(peer.started_at, peer.beat_at) >= newest]
    here.sort(key=lambda peer: (peer.started_at, peer.identity))
    found = list(_of_one_name(here))
    for other in here[1:]:
        found += _between(here[0], other)
    return found


def _of_one_name(peers: Sequence[Peer]) -> Iterator[Disagreement]:
    named: dict[str, list[Peer]] = defaultdict(list)
    for peer in peers:
        named[peer.name].append(peer)
    for name, same in named.items():
        for other in same[1:]:
            since = f"one since {_time(same[0])}, the other since {_time(other)} UTC"
            yield Disagreement(f"two gateways have the name {name}, {since}: give each its own `name` in [node]")


def _time(peer: Peer) -> str:
    return f"{peer.started_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _between(one: Peer, other: Peer) -> Iterator[Disagreement]:
    both = f"the gateways {one.name} and {other.name}"
    if one.layout != other.layout:
        layouts = f"{one.layout} (version {one.version}) and {other.layout} (version {other.version})"
        yield Disagreement(f"{both} work with the layouts {layouts} of the journal: bring both to the newer version")
    elif one.version != other.version:
        versions = f"{one.version} and {other.version}"
        yield Disagreement(f"{both} are of the versions {versions}: bring both to the newer one", expected=True)
    for kind, compare in (("organisation", _organisation), ("plugin", _plugin)):
        table = f"{kind}s"
        if table not in one.about or table not in other.about:  # a version that does not tell it
            continue
        ours, theirs = one.about[table], other.about[table]
        for name in sorted({**ours, **theirs}):
            if name not in ours or name not in theirs:
                has, lacks = (one, other) if name in ours else (other, one)
                what = f"the {kind} {name} is in the config of the gateway {has.name}, and not in that of {lacks.name}"
                yield Disagreement(f"{what}: give both the same config")
            elif what := compare(ours[name], theirs[name]):
                yield Disagreement(f"{both} differ in the {kind} {name}, in {what}: give both the same")


def _organisation(one: Any, other: Any) -> str:
    return "its settings" if one != other else ""


def _plugin(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    differ = [key for key in one if key in other and one[key] != other[key]]
    return ", ".join(f"`{key}` ({one[key]} and {other[key]})" if key in _SHOWN else f"`{key}`" for key in differ)
