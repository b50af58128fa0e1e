"""Faults of the files that the listeners need for TLS."""

from __future__ import annotations

import os
from collections.abc import Iterator

from gateway.config.convert import Problem
from gateway.config.tables import AdminSettings, ServerSettings, TlsSettings


class _Encrypted(Exception):
    """The key is encrypted. OpenSSL would ask for its pass phrase on a terminal, which a service does not have."""


def tls_faults(server: ServerSettings, admin: AdminSettings) -> Iterator[Problem]:
    """The first fault of the certificate and the key of each listener. Does not ask for a pass phrase."""
    for name, tls in (("server.tls", server.tls), ("admin.tls", admin.tls)):
        if tls is not None:
            yield from _certificate(name, tls)


def _certificate(path: str, tls: TlsSettings) -> Iterator[Problem]:
    import ssl  # slow to import, and most commands do not need it

    for name, file in (("certificate", tls.certificate), ("key", tls.key)):
        if not os.access(file, os.R_OK):
            reason = "cannot be read by this user" if file.exists() else "does not exist"
            yield Problem(f"{path}.{name}", f"{file} {reason}")
            return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.certificate, tls.key, password=_refuse)
    except _Encrypted:
        what = f"expected an unencrypted key (with mode 0600); {tls.key} is encrypted with a pass phrase"
        yield Problem(f"{path}.key", what)
    except (ssl.SSLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        yield Problem(path, f"cannot serve with the certificate {tls.certificate} and the key {tls.key}: {reason}")


def _refuse() -> str:
    raise _Encrypted
