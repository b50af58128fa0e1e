"""Headers of HTTP requests that may be secrets, and what a client logs."""

from __future__ import annotations

import logging
import re
from typing import Final

from gateway import Secret

_SECRET_NAME: Final = re.compile(
    r"auth|cookie|key|token|secret|passw|pwd|credential|bearer|session|signature", re.IGNORECASE
)
_SECRET_VALUE: Final = re.compile(r"(bearer|basic|digest|token)\s+\S|eyJ[\w-]+\.|://[^/?#\s]*@", re.IGNORECASE)
_QUIET: Final = ("httpx", "httpcore")


def may_be_secret(name: str, value: str) -> bool:
    """Whether a header looks as if it must not be in the config file."""
    return bool(_SECRET_NAME.search(name) or _SECRET_VALUE.match(value.strip()))


def header_value(secret: Secret) -> str:
    """A secret for a header; `ValueError` where it has characters that a header cannot contain, such as line breaks."""
    text = secret.text()
    if not (text.isascii() and text.isprintable()):
        raise ValueError(f"the secret in {secret.source} has characters that a header cannot contain")
    return text


def quieten() -> None:
    """Keep the HTTP client from logging URLs, which may contain credentials and customers' data."""
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
