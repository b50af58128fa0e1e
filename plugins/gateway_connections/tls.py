"""TLS of a client."""

from __future__ import annotations

import ssl
from pathlib import Path


def client_context(ca: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """Checks the server's name and certificate. `ca` is the authority that signed it (default: those of the system),
    `certificate` and `key` are the client's own; each is a PEM file. `ValueError` where the files cannot be used."""
    try:
        context = ssl.create_default_context(cafile=ca)
        if certificate is not None:
            context.load_cert_chain(certificate, key)
    except (OSError, ValueError) as error:
        raise ValueError(f"the certificates cannot be used: {error}") from None
    return context
