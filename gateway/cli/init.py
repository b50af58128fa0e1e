"""`gateway init`: writes the example configuration, its secrets, and a small database for custom values."""

from __future__ import annotations

import os
import secrets
import shlex
import sqlite3
from pathlib import Path
from typing import Final, NamedTuple

import click

from gateway.cli.failures import Failure
from gateway.cli.options import config_option, json_option
from gateway.cli.output import print_json

SECRET: Final = Path("var/webio.secret")
PASSWORD: Final = Path("var/admin.password")
CUSTOMERS: Final = Path("var/customers.db")
_SECRET_BYTES = 48
_PASSWORD_BYTES = 24

# The first is the customer of Webio's example request. Two of them have the same phone number.
_CUSTOMERS = [
    ("123456", "44777777777", "ID-4711", "Siobhan Walsh", "120.50", "2026-09-01"),
    ("123457", "447700900101", "ID-4712", "Tom Ivers", "0.00", None),
    ("123458", "447700900102", "ID-4713", "Aisha Khan", "1890.00", "2026-08-15"),
    ("200001", "447700900200", "ID-5001", "Mary Byrne", "45.10", "2026-09-20"),
    ("200002", "447700900200", "ID-5002", "John Byrne", "310.00", "2026-10-05"),
]
_TABLE = """
CREATE TABLE customers (
    customer_uid TEXT PRIMARY KEY,
    phone TEXT NOT NULL,
    id_number TEXT NOT NULL,
    name TEXT NOT NULL,
    balance TEXT NOT NULL,  -- text, because SQLite has no exact decimals
    due_date TEXT
) STRICT;
CREATE INDEX customers_phone ON customers (phone);
"""


class Made(NamedTuple):
    """A file of `init`; `new` is false where it existed already."""

    path: Path
    new: bool


@click.command("init")
@click.argument("directory", required=False, type=click.Path(path_type=Path, file_okay=False))
@config_option
@json_option
def command(directory: Path | None, config_path: Path, as_json: bool) -> None:
    """Write the files of a first run: config.toml, a new secret, a password for the admin
    listener, and a small sample database.

    They are written into DIRECTORY, or beside the config file of `-c`, or into the current folder. Files that exist
    stay as they are.

    \b
    Examples:
      gateway init
      gateway init /etc/webio-gateway
    """
    config = directory / "config.toml" if directory else config_path
    try:
        made = init(config)
    except OSError as error:
        raise Failure(f"{error.filename or config}: {error.strerror}; nothing more was written") from None
    if as_json:
        print_json({"files": [{"path": str(file.path), "new": file.new} for file in made]})
        return
    for file in made:
        click.echo(f"{'made' if file.new else 'kept'}  {file.path}")
    option = "" if config == Path("config.toml") else f" -c {shlex.quote(str(config))}"
    click.echo(f"\nNext: gateway check{option}   then: gateway run{option}")


def init(config: Path) -> list[Made]:
    """Write `config` and the files that it names, unless they exist. `OSError` where one cannot be written."""
    config.parent.mkdir(parents=True, exist_ok=True)
    made = [_write(config, example(), 0o644)]
    named = [line for line in config.read_bytes().splitlines() if not line.lstrip().startswith(b"#")]
    for path, content in ((SECRET, _secret), (PASSWORD, _password), (CUSTOMERS, _customers)):
        if any(path.as_posix().encode() in line for line in named):  # not the files of a config that names others
            target = config.parent / path
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            made.append(_write(target, content(), 0o600))
    return made


def example() -> bytes:
    """The commented `config.toml`: inside the package in the wheel, beside the package in the repository."""
    package = Path(__file__).parent.parent
    inside = package / "config.toml"
    return (inside if inside.exists() else package.with_name("config.toml")).read_bytes()


def _write(path: Path, content: bytes, mode: int) -> Made:
    """Write a new file; an existing file stays."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        return Made(path, False)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return Made(path, True)


def _secret() -> bytes:
    return secrets.token_urlsafe(_SECRET_BYTES).encode() + b"\n"


def _password() -> bytes:
    return secrets.token_urlsafe(_PASSWORD_BYTES).encode() + b"\n"


def _customers() -> bytes:
    connection = sqlite3.connect(":memory:")
    try:
        connection.executescript(_TABLE)
        connection.executemany("INSERT INTO customers VALUES (?, ?, ?, ?, ?, ?)", _CUSTOMERS)
        connection.commit()
        return connection.serialize()
    finally:
        connection.close()
