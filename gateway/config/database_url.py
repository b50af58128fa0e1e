"""The address of the database that has the journal."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import parse_qs, unquote, urlsplit

from gateway.config.field_types import show

EXAMPLE: Final = '"postgresql://gateway@db.example.com/gateway"'
SEVERAL: Final = '"postgresql://gateway@db1.example.com,db2.example.com/gateway"'
SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_KEYS: Final = ("host", "port", "search_path", "sslcert", "sslkey", "sslmode")
_SCHEMES: Final = ("postgresql", "postgres")
_HOST: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d+))?", re.ASCII)
_PORTS: Final = range(1, 65536)


class DatabaseUrl(str):
    """`postgresql://user@host[:port][,host]/database[?search_path=…&sslmode=…]`, without a password."""

    __slots__ = ()

    @classmethod
    def from_config(cls, value: Any, directory: Path) -> Self:
        if not isinstance(value, str) or not value.isprintable() or " " in value:
            raise ValueError(f"expected the address of a database such as {EXAMPLE}, found {_shown(value)}")
        try:
            parts = urlsplit(value)
        except ValueError:  # its text repeats the user and a password
            raise ValueError(f"expected the address of a database such as {EXAMPLE}, found another string") from None
        user, at, hosts = parts.netloc.rpartition("@")
        cut = not at and "@" in value and parts.scheme in _SCHEMES  # by a "/", "?" or "#" in a password
        if cut or ":" in user or "password" in parse_qs(parts.query):
            raise ValueError('has a password in it; leave it out, and write password = { file = "path" }')
        if parts.scheme not in _SCHEMES:
            raise ValueError(f"expected the address of a database such as {EXAMPLE}, found {_shown(value)}")
        for fault in _faults(hosts, unquote(parts.path[1:]), parts.query):
            raise ValueError(fault)
        return cls(value)

    def option(self, name: str) -> str | None:
        """The value of a key after the `?`, or None."""
        return parse_qs(urlsplit(self).query).get(name, [None])[-1]

    @property
    def hosts(self) -> list[str]:
        """The hosts without ports, in order; one that begins with `/` is the folder of a socket."""
        listed = urlsplit(self).netloc.rpartition("@")[2] or self.option("host") or ""
        return [_without_port(unquote(one)) for one in listed.split(",")]

    @property
    def each(self) -> list[str]:
        """The address of each host alone, in order."""
        parts = urlsplit(self)
        user, at, listed = parts.netloc.rpartition("@")
        return [parts._replace(netloc=f"{user}{at}{host}").geturl() for host in listed.split(",")]

    @property
    def is_local(self) -> bool:
        """Whether every host is this machine."""
        return all(map(_is_local, self.hosts))

    @property
    def shown(self) -> str:
        """The address without the user and what comes after the `?`, for messages."""
        parts = urlsplit(self)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2] or self.option('host') or ''}{parts.path}"


def _faults(hosts: str, database: str, query: str) -> Iterator[str]:
    options = parse_qs(query, keep_blank_values=True)
    if not hosts and not options.get("host"):
        yield f"names no host; expected an address such as {EXAMPLE}"
    for host in hosts.split(",") if hosts else ():
        if not (found := _HOST.fullmatch(host)):
            # What follows a ":" may be a password.
            what = 'one with a ":" that no port follows' if ":" in host else show(host)
            yield f"expected hosts such as db1.example.com:5432,db2.example.com, found {what}"
        elif found[1] is not None and not _is_port(found[1]):
            yield f"expected a port from {_PORTS[0]} to {_PORTS[-1]} after a host, found another number"
    if any("," in host for host in options.get("host", ())):
        yield f"host: expected one host or folder after the `?`; several go before the database, as in {SEVERAL}"
    for port in options.get("port", ()):
        if not _is_port(port):
            yield f"port: expected a number from {_PORTS[0]} to {_PORTS[-1]}, found {show(port)}"
    if not database or "/" in database:
        yield f"names no database; expected an address such as {EXAMPLE}"
    for key in options:
        if key not in _KEYS:
            what = "an unknown key" if "@" in key else f"the unknown key {show(key)}"
            yield f"has {what} after the `?`; known: {', '.join(_KEYS)}"
    mode = options.get("sslmode", ["prefer"])[-1]
    if mode not in SSL_MODES:
        yield f"sslmode: expected one of {', '.join(SSL_MODES)}, found {show(mode)}"


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) in _PORTS


def _shown(value: Any) -> str:
    return "a string" if isinstance(value, str) and ("@" in value or "=" in value) else show(value)


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1 : host.find("]")]
    return host if host.startswith("/") else host.partition(":")[0]


def _is_local(host: str) -> bool:
    if host.startswith("/") or host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
