"""Who may hold a connection: limits for all clients of a listener together, and for each client address."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.address import address_group
from gateway.config.field_types import Network
from gateway.serving.half_close import HalfClosing

if TYPE_CHECKING:
    from gateway.serving.connections import Connections
    from gateway.serving.protocol import Connection


class Place:
    """What a connection holds from its accept to its end, so that TLS handshakes count, too."""

    __slots__ = ("_admission", "_group", "connection")

    def __init__(self, admission: Admission, group: str | None) -> None:
        self._admission: Admission | None = admission
        self._group = group
        self.connection: Connection | None = None
        """Set once the connection can take requests."""

    def open(self, connection: Connection) -> None:
        """The connection can take requests from now on."""
        self.connection = connection
        tls = connection.transport.get_extra_info("ssl_object")
        if isinstance(tls, HalfClosing):
            tls.on_end = self._input_ended

    def _input_ended(self) -> None:
        if self.connection is not None and not self.connection.input_ended():
            self.connection.transport.close()

    def leave(self) -> None:
        """Free the place. The second call does nothing."""
        if self._admission is not None:
            self._admission.free(self, self._group)
            self._admission = None


class Admission:
    """Gives places to the clients of one listener.

    When a limit is reached, the connection that has waited longest for a request makes room, among those of the same
    address where the limit is the address's. When none waits, the new client is refused.
    """

    def __init__(
        self, shared: Connections, limit: int, per_address: int | None = None, proxies: Sequence[Network] = ()
    ) -> None:
        """`limit` is the highest number of connections, `per_address` that of one client address; `proxies` have no
        limit of their own."""
        self.taken = 0
        self._shared = shared
        self._limit = limit
        self._per_address = per_address
        self._proxies = proxies
        self._groups: defaultdict[str, dict[Place, None]] = defaultdict(dict)  # oldest first

    def admit(self, client: str) -> Place | None:
        """A place for a new client, or None: refuse it."""
        group, waiting = self._group(client), self._shared.waiting
        if group is not None and len(self._groups.get(group, ())) >= (self._per_address or 0):
            held = [place.connection for place in self._groups[group]]
            idle = min((one for one in held if one in waiting), key=waiting.__getitem__, default=None)
            what = f"its address has {self._per_address} connections (server.max_connections_per_address)"
            if not self._make_room(client, idle, what):
                return None
        if self.taken >= self._limit:
            idle = next(iter(waiting), None)
            if not self._make_room(client, idle, f"all {self._limit} connections are in use"):
                return None
        place = Place(self, group)
        self.taken += 1
        if group is not None:
            self._groups[group][place] = None
        return place

    def free(self, place: Place, group: str | None) -> None:
        self.taken -= 1
        if group is not None:
            del self._groups[group][place]
            if not self._groups[group]:
                del self._groups[group]
        if not self.taken:
            self._shared.none_left.set()

    def _make_room(self, client: str, idle: Connection | None, what: str) -> bool:
        what_next = "closing the new one" if idle is None else "closing the one that waits longest for a request"
        self._shared.note(503, client, f"{what}; {what_next}", "connections")
        if idle is not None:
            idle.abort()
        return idle is not None

    def _group(self, client: str) -> str | None:
        """What counts as one address: an IPv4 address, or the /64 network of an IPv6 address, which one client has as
        a whole. None where no limit holds."""
        if self._per_address is None or any(client in proxy for proxy in self._proxies):
            return None
        return address_group(client)
