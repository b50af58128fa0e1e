"""Checks the certificate and the key of `[server.tls]`."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator

from gateway.config.convert import Problem
from gateway.config.tables import TlsSettings


class _Encrypted(Exception):
    """OpenSSL wants a pass phrase. It would ask for it on a terminal, which a service does not have."""


def tls_faults(tls: TlsSettings) -> Iterator[Problem]:
    """The first fault found. Does not ask for a pass phrase."""
    for name, file in (("certificate", tls.certificate), ("key", tls.key)):
        if not os.access(file, os.R_OK):
            reason = "cannot be read by this user" if file.exists() else "does not exist"
            yield Problem(f"server.tls.{name}", f"{file} {reason}")
            return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.certificate, tls.key, password=_refuse)
    except _Encrypted:
        what = f"expected an unencrypted key (with mode 0600); {tls.key} is encrypted with a pass phrase"
        yield Problem("server.tls.key", what)
    except (ssl.SSLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        yield Problem(
            "server.tls", f"cannot serve with the certificate {tls.certificate} and the key {tls.key}: {reason}"
        )


def _refuse() -> str:
    raise _Encrypted
