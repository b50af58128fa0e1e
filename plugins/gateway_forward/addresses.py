"""Which addresses may be connected to: public ones, and those that the operator names."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

from gateway import Network
from gateway_forward.failures import ForwardFailed

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""From a host and a port to the host's addresses; `OSError` where there is none."""

KEPT: Final = 5.0
"""Seconds for which the addresses of a host are used before they are looked up again."""
METADATA: Final = frozenset(
    map(
        ip_address,
        (
            *("169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::254", "fd00:ec2::23"),
            *("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd20:ce::254"),
        ),
    )
)
"""Where clouds give a machine its credentials."""
_TRANSLATED: Final = IPv6Network("64:ff9b::/96")
"""IPv6 addresses whose last four bytes are the IPv4 address that is meant (RFC 6052)."""


async def resolve(host: str, port: int) -> list[str]:
    """Ask the system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Addresses:
    """The addresses of hosts that may be connected to. A connection must go to one of them, not to the host's name: the
    name may mean another address by then."""

    def __init__(self, allowed: Sequence[Network], resolve: Resolve = resolve) -> None:
        self._allowed = allowed
        self._resolve = resolve
        self._known: dict[tuple[str, int], tuple[float, list[str]]] = {}

    async def of(self, host: str, port: int) -> list[str]:
        """In the resolver's order, without those that are refused; `ForwardFailed` where none is left."""
        until, known = self._known.get((host, port), (0.0, []))
        if time.monotonic() < until:
            return known
        try:
            found = await self._resolve(host, port)
        except OSError as error:
            raise ForwardFailed(f"the address of {host} cannot be found: {error.strerror or error}") from None
        refused = {address: why for address in found if (why := refusal(address, self._allowed))}
        good = [address for address in found if address not in refused]
        if not good:
            address, why = next(iter(refused.items()), ("no address", "not there"))
            what = f"{host} is" if address == host else f"{host} is {address}, which is"
            raise ForwardFailed(f"{what} {why}: if that is meant, add it to allow_networks")
        self._known[host, port] = time.monotonic() + KEPT, good
        return good

    def forget(self, host: str, port: int) -> None:
        """Look the host up again for the next connection."""
        self._known.pop((host, port), None)


def refusal(address: str, allowed: Sequence[Network]) -> str | None:
    """Why an address must not be connected to, or None. One that the operator names is good; a metadata service only
    where it is named by itself, not by a network around it."""
    meant = _meant(ip_address(address))
    if meant in METADATA:
        named = any(one.network.num_addresses == 1 and str(meant) in one for one in allowed)
        return None if named else "the metadata service of a cloud"
    if any(str(meant) in one for one in allowed):
        return None
    for what, holds in (
        ("a loopback address", meant.is_loopback),
        ("a link-local address", meant.is_link_local),
        ("a multicast address", meant.is_multicast),
        ("not an address of a host", meant.is_unspecified),
        ("a private address", meant.is_private),
        ("not a public address", not meant.is_global),
    ):
        if holds:
            return what
    return None


def _meant(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address in an IPv6 one that stands for it; any other as it is, without its interface."""
    if isinstance(address, IPv4Address):
        return address
    if address in _TRANSLATED:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or IPv6Address(int(address))
