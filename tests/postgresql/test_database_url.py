"""`[journal] url` and the keys beside it: what is accepted, and one sentence for each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import read_config, write_config

from gateway.config.convert import ConfigError
from gateway.config.database_url import DatabaseUrl
from gateway.preflight import examine_config

URL = "postgresql://gateway@db.example.com/gateway"


def problems(directory: Path, table: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as raised:
        read_config(directory, f"[journal]\n{table}\n")
    return {problem.path: problem.message for problem in raised.value.problems}


@pytest.mark.parametrize(
    "url",
    [
        URL,
        "postgres://gateway@db:5433/gateway",
        "postgresql://gateway@db1.example.com:5432,db2.example.com:5433/gateway?sslmode=verify-full",
        "postgresql://gateway@[::1]:5432/gateway",
        "postgresql://gateway@/gateway?host=/run/postgresql",
        "postgresql://gateway@10.0.0.7/gateway?search_path=webio&sslcert=client.pem&sslkey=client.key",
    ],
)
def test_an_address_of_a_database_is_taken_as_it_is(tmp_path: Path, url: str) -> None:
    """Several hosts, a socket, a schema of its own, a certificate of the client."""
    config = read_config(tmp_path, f'[journal]\nurl = "{url}"\n')

    assert (str(config.journal.url), config.journal.require_standby) == (url, False)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "postgresql://gateway:pw@db/gateway",
            'has a password in it; leave it out, and write password = { file = "path" }',
        ),
        (f"{URL}?password=pw", 'has a password in it; leave it out, and write password = { file = "path" }'),
        ("postgresql://gateway@/gateway", "names no host; expected an address such as "),
        ("postgresql://gateway@db", "names no database; expected an address such as "),
        ("mysql://db/gateway", "expected the address of a database such as "),
        ("var/journal.db", "expected the address of a database such as "),
        (f"{URL}?sslmode=maybe", "sslmode: expected one of disable, allow, prefer, "),
        (f"{URL}?pool=5", 'has the unknown key "pool" after the `?`; known: host, port, search_path, '),
        ("postgresql://gateway@db:port/gateway", "expected hosts such as "),
        ("postgresql://gateway@db:99999/gateway", "expected a port from 1 to 65535 after a host, found another number"),
        ("postgresql://gateway@db:0/gateway", "expected a port from 1 to 65535 after a host, found another number"),
        (f"{URL}?port=65536", 'port: expected a number from 1 to 65535, found "65536"'),
        ("postgresql://gateway@/gateway?host=db1,db2", "host: expected one host or folder after the `?`; several go "),
    ],
)
def test_another_address_is_refused_with_a_sentence(tmp_path: Path, url: str, message: str) -> None:
    """Which part is wrong and what was expected; a password is not repeated."""
    found = problems(tmp_path, f'url = "{url}"')

    assert found.keys() == {"journal.url"}
    assert found["journal.url"].startswith(message)
    assert "pw" not in found["journal.url"]


@pytest.mark.parametrize("sign", ["/", "?", "#", "/%2f", "@/"])
def test_a_password_that_cuts_the_address_is_not_repeated(tmp_path: Path, sign: str) -> None:
    """A sign in it that an address needs escaped ends the part with the user."""
    found = problems(tmp_path, f'url = "postgresql://gateway:s3cr{sign}et@db/gateway"')

    assert found == {"journal.url": 'has a password in it; leave it out, and write password = { file = "path" }'}


@pytest.mark.parametrize(
    "url", ["gateway@:s3cr/et@db/gw", "gateway@db:s3cr/gw", "gateway:s3cr\u2100@db/gw", "g:s3cr[@db/gw"]
)
def test_what_may_be_a_password_is_not_repeated(tmp_path: Path, url: str) -> None:
    """Behind the `:` of a host, and in an address that cannot be taken apart."""
    found = problems(tmp_path, f'url = "postgresql://{url}"')

    assert found["journal.url"].startswith("expected ")
    assert "s3cr" not in found["journal.url"]


def test_the_keys_of_a_file_do_not_go_with_a_database(tmp_path: Path) -> None:
    """Each is a fault of its own, with what to do."""
    found = problems(tmp_path, f'url = "{URL}"\npath = "var/journal.db"\nmax_size = "1 GiB"\nmin_free = "1 GiB"')

    assert found == {
        "journal.path": "names a file, and `url` a database; leave one of them out",
        "journal.max_size": "does not apply to a database; watch the size of the database itself, and leave this out",
        "journal.min_free": "does not apply to a database; watch the disk of the database itself, and leave this out",
    }


def test_the_keys_of_a_database_need_one(tmp_path: Path) -> None:
    """They would be without effect."""
    (tmp_path / "password").write_text("secret")
    table = 'password = { file = "password" }\nca = "ca.pem"\nrequire_standby = true'

    found = problems(tmp_path, table)

    message = "needs `url`, the address of a database"
    assert found == {"journal.password": message, "journal.ca": message, "journal.require_standby": message}


def test_certificates_that_are_not_used_are_a_fault(tmp_path: Path) -> None:
    """`ca` beside an sslmode that verifies nothing."""
    found = problems(tmp_path, f'url = "{URL}?sslmode=require"\nca = "ca.pem"')

    assert found == {"journal.ca": "is not used with sslmode=require; write sslmode=verify-full, or leave it out"}


def test_a_connection_that_is_not_verified_is_a_warning(tmp_path: Path) -> None:
    """But not one to this machine."""
    for host, count in (("db.example.com", 1), ("127.0.0.1", 0)):
        path = write_config(tmp_path, f'[journal]\nurl = "postgresql://gateway@{host}/gateway?sslmode=require"\n')
        warnings = {one.path: one.message for one in examine_config(path).warnings}
        assert ("journal.url" in warnings) == bool(count)
    assert DatabaseUrl(URL).shown == "postgresql://db.example.com/gateway"
