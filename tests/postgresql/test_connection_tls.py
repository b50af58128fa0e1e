"""TLS to the database: it is verified, and each way in which that fails has a sentence."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from clusters import USER, Cluster, clusters
from postgresql.conftest import Configure, opened

from gateway.config.database_url import DatabaseUrl
from gateway.journal.interface import JournalRefused


@pytest.fixture(scope="module")
def server(certificate: Path) -> Iterator[Cluster]:
    """A server with TLS, whose certificate is for `localhost`."""
    with clusters(1, ssl="on") as (made,):
        made.make()
        for name, target in (("certificate.pem", "server.crt"), ("key.pem", "server.key")):
            file = made.folder / "data" / target
            shutil.copy(certificate / name, file)
            file.chmod(0o600)
            if os.geteuid() == 0:
                shutil.chown(file, USER, USER)
        made.start()
        yield made


def url(server: Cluster, host: str = "localhost", query: str = "") -> str:
    return f"postgresql://gateway@{host}:{server.port}/gateway{query}"


async def sentence(configure: Configure, *table: str) -> str:
    with pytest.raises(JournalRefused) as raised:
        async with opened(configure(*table)):
            pass
    return str(raised.value)


async def test_a_certificate_that_ca_signs_is_trusted(server: Cluster, certificate: Path, configure: Configure) -> None:
    """The connections are encrypted."""
    async with opened(configure(url(server), f'ca = "{certificate}/certificate.pem"')):
        found = server.execute(
            "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
            " WHERE application_name LIKE 'webio-gateway%'"
        )
    assert found == [(True,)]


async def test_another_certificate_is_refused(server: Cluster, configure: Configure) -> None:
    """Without `ca`, only those count that this machine trusts."""
    found = await sentence(configure, url(server, query="?sslmode=verify-full"))

    assert found.startswith("the certificate of the database is not trusted (self-signed certificate")
    assert found.endswith("; name the certificate that signs it in journal.ca")


async def test_the_certificate_of_another_host_is_refused(
    server: Cluster, certificate: Path, configure: Configure
) -> None:
    """The name in `url` must be the certificate's."""
    found = await sentence(configure, url(server, "127.0.0.1"), f'ca = "{certificate}/certificate.pem"')

    assert "the certificate of the database is not trusted (IP address mismatch" in found


async def test_verify_ca_leaves_out_the_name(server: Cluster, certificate: Path, configure: Configure) -> None:
    """As everywhere with PostgreSQL."""
    config = configure(url(server, "127.0.0.1", "?sslmode=verify-ca"), f'ca = "{certificate}/certificate.pem"')
    async with opened(config):
        pass


async def test_a_server_without_tls_is_refused(cluster: Cluster, configure: Configure) -> None:
    """Where verification is asked for, nothing is sent unencrypted. So it is with several hosts, and `require`."""
    several = f"postgresql://gateway@localhost:{cluster.port},127.0.0.1:{cluster.port}/gateway"
    for address in (url(cluster), several):
        for mode in ("verify-full", "require"):
            found = await sentence(configure, f"{address}?sslmode={mode}")
            assert found == "the database offers no TLS; set ssl = on there, or give sslmode in journal.url"


async def test_a_ca_that_cannot_be_read_is_named(cluster: Cluster, configure: Configure, tmp_path: Path) -> None:
    """Missing, or not PEM."""
    for text in (None, "not a certificate"):
        if text is not None:
            (tmp_path / "ca.pem").write_text(text)
        found = await sentence(configure, url(cluster), 'ca = "ca.pem"')
        assert found.startswith(f"journal.ca: {tmp_path / 'ca.pem'} cannot be used as PEM certificates (")


@pytest.mark.parametrize("mode", ["require", "verify-full", "prefer"])
async def test_a_certificate_of_the_client_that_cannot_be_read_is_named(
    cluster: Cluster, configure: Configure, tmp_path: Path, mode: str
) -> None:
    """Missing, or not PEM; with each sslmode that may use it."""
    certificate, key = tmp_path / "client.pem", tmp_path / "client.key"
    query = f"?sslmode={mode}&sslcert={certificate}&sslkey={key}"
    for text in (None, "not a certificate"):
        if text is not None:
            certificate.write_text(text)
            key.write_text(text)
        found = await sentence(configure, url(cluster, query=query))
        start = (
            f"journal.url: sslcert {certificate} and sslkey {key} cannot be used as a PEM certificate with its key ("
        )
        assert found.startswith(start)


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("postgresql://gateway@localhost,127.0.0.1:5433/gateway", True),
        ("postgresql://gateway@[::1]/gateway", True),
        ("postgresql://gateway@/gateway?host=/run/postgresql", True),
        ("postgresql://gateway@localhost,db/gateway", False),
        ("postgresql://gateway@10.0.0.1/gateway", False),
    ],
)
def test_only_this_machine_needs_no_verification(text: str, local: bool) -> None:
    """A list of hosts counts by the one that is furthest away."""
    assert DatabaseUrl(text).is_local == local
