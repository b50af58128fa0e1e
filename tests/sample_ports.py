"""Free ports for the config that `gateway init` writes. It needs nothing but Python, as `try_wheel.py` does."""

from __future__ import annotations

import socket
from pathlib import Path


def use_free_ports(config: Path) -> None:
    """The machine that tries this may have a gateway of its own on the usual ports."""
    text = config.read_text()
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        for usual, probe in ((8080, one), (8081, two)):
            text = text.replace(f"#port = {usual}", f"port = {probe.getsockname()[1]}")
    config.write_text(text)
