"""The listening sockets that a service manager has opened for `gateway run`, by systemd's protocol: `LISTEN_FDS`
sockets from file descriptor 3 on, for the process `LISTEN_PID`, with their names in `LISTEN_FDNAMES`.

Clients that connect while the gateway restarts wait in such a socket and are not refused.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from typing import Final

FIRST: Final = 3
"""The file descriptor of the first socket."""
LISTENERS: Final = ("webhooks", "admin")
NOT_GIVEN: Final = -1
"""In place of the file descriptor of a socket that the gateway opens by itself."""


def given_sockets(environment: MutableMapping[str, str]) -> tuple[int, int]:
    """The file descriptors of the public and of the admin listener. Sockets that have none of the names of `LISTENERS`
    are taken in their order. Removes the variables, because they are for this process only. `OSError` with a sentence
    for the operator where the sockets cannot be used."""
    count, process, names = (environment.pop(f"LISTEN_{name}", "") for name in ("FDS", "PID", "FDNAMES"))
    if not count.isdecimal() or process != str(os.getpid()):
        return NOT_GIVEN, NOT_GIVEN
    named = names.split(":")
    if not set(named) & set(LISTENERS):
        named = list(LISTENERS[: int(count)])
    if len(named) != int(count) or sorted(set(named) & set(LISTENERS)) != sorted(named):
        raise OSError(
            f"the service manager passed {count} sockets named {names or '(no names)'!r}; expected at most one named"
            " webhooks and one named admin, or without these names the public listener's first, then the admin's"
        )
    given = dict(zip(named, range(FIRST, FIRST + int(count)), strict=True))
    for name, descriptor in given.items():
        _must_listen(name, descriptor)
    return given.get("webhooks", NOT_GIVEN), given.get("admin", NOT_GIVEN)


def _must_listen(name: str, descriptor: int) -> None:
    try:
        with socket.socket(fileno=os.dup(descriptor)) as found:
            listens = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            usable = listens and found.type == socket.SOCK_STREAM and found.family in (socket.AF_INET, socket.AF_INET6)
    except OSError:
        usable = False
    if not usable:
        raise OSError(
            f"the service manager passed file descriptor {descriptor} for the {name} listener, which is not a listening"
            " TCP socket; use ListenStream= with an address and a port, and Accept=no"
        )
