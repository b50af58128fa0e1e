"""How long a 401 takes for each reason: the medians must not tell why a token was refused (goal: within 20 us).

    python benchmarks/unauthorized.py --count 2000

Sends refused requests to a running gateway, the reasons in turn, over a new connection each, and prints the median time
from the last byte sent to the first byte of the answer.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import sys
import tempfile
import time
from base64 import urlsafe_b64encode
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from running import running

from gateway.config.tables import OrganisationSettings
from gateway.http.tokens import mint

CONFIG = """
[organisations.strict]
secrets = [{ file = "strict.secret" }]
claims = { org = "strict" }
issued_after = 2026-01-01T00:00:00Z
"""


def refused_tokens(acme: OrganisationSettings, strict: OrganisationSettings) -> dict[str, list[bytes]]:
    """By reason, the tokens of a request that is refused for it."""
    good, now = mint(acme), time.time()
    head, payload, signature = good.split(".")
    none = urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    tokens = {
        "no dots": "x" * len(good),
        "not base64url": f"{head}.{payload}.{'!' * len(signature)}",
        "too long": "x" * 5000,
        "algorithm": f"{none}.{payload}.{signature}",
        "signature": f"{head}.{payload}.{signature[::-1][1:]}A",
        "claims": mint(strict, claims={"org": "other"}),
        "issued": mint(strict, now=1_700_000_000),
        "early": mint(acme, now=now + 86400),
        "expired": mint(acme, now=now - 7200, expires_in=3600),
    }
    found = {reason: [token.encode()] for reason, token in tokens.items()}
    return {"missing": [], "repeated": [good.encode()] * 2, **found}


def seconds(port: int, tokens: list[bytes]) -> float:
    """The time of one 401."""
    lines = [b"POST /webio HTTP/1.1", b"Host: gateway", b"Content-Length: 2", *(b"x-webio-token: " + t for t in tokens)]
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = time.perf_counter()
        connection.sendall(b"\r\n".join(lines) + b"\r\n\r\n{}")
        answer = connection.recv(4096)
        took = time.perf_counter() - began
        if not answer.startswith(b"HTTP/1.1 401 "):
            sys.exit(f"expected a 401, found {answer[:80]!r}")
        return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="requests for each reason")
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "strict.secret").write_text("another secret of thirty-two bytes or more")
        with running(Path(folder), CONFIG) as gateway:
            organisations = gateway.config.organisations
            requests = refused_tokens(organisations["acme"], organisations["strict"])
            times = defaultdict[str, list[float]](list)
            for _ in range(count):
                for reason, tokens in requests.items():
                    times[reason].append(seconds(gateway.config.server.port, tokens))
    medians = {reason: statistics.median(found) * 1e6 for reason, found in times.items()}
    for reason, median in sorted(medians.items(), key=lambda item: item[1]):
        print(f"{reason:15} {median:8.0f} us")
    print(f"apart by at most {max(medians.values()) - min(medians.values()):.0f} us (goal <= 20)")


if __name__ == "__main__":
    main()
