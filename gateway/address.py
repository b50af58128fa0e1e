"""Client addresses: which of them belong to one client."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network, ip_address


def address_group(client: str) -> str:
    """What limits take for one client: its IPv4 address, or the /64 network of its IPv6 address, which one client has
    as a whole."""
    if ":" not in client:
        return client
    try:
        address = ip_address(client.partition("%")[0])
    except ValueError:
        return client
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((address.packed[:8] + bytes(8), 64)))
