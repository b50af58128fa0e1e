"""What plugins have in common that open connections to servers. A plugin of a third party can use it, too.

`client_context` is the TLS context from certificates in files, and `is_loopback` tells this machine's addresses. The
rest is for HTTP: `may_be_secret` tells a header that does not belong in the config, `header_value` makes a header of a
secret, and `quieten` keeps the client from logging URLs.
"""

from gateway_connections.headers import header_value, may_be_secret, quieten
from gateway_connections.hosts import is_loopback
from gateway_connections.tls import client_context

__all__ = ["client_context", "header_value", "is_loopback", "may_be_secret", "quieten"]
