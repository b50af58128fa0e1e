"""The database's URL in the config, whose text must not contain a password."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar, Final, Self
from urllib.parse import quote, unquote

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, InvalidRequestError, NoSuchModuleError
from sqlalchemy.ext.asyncio import create_async_engine

from gateway import Secret

_DRIVERS: Final = {
    "sqlite": "sqlite+pysqlite",
    "sqlite+aiosqlite": "sqlite+pysqlite",  # runs in threads of the plugin's own
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "mysql": "mysql+asyncmy",
    "mariadb": "mariadb+asyncmy",
    "mssql": "mssql+aioodbc",
    "oracle": "oracle+oracledb_async",
}
_EXTRAS: Final = {
    "postgresql": "postgresql",
    "mysql": "mysql",
    "mariadb": "mysql",
    "mssql": "mssql",
    "oracle": "oracle",
}
_PASSWORD_KEYS: Final = {"password", "passwd", "pwd", "sslpassword"}
_OF_POSTGRESQL: Final = {
    "sslrootcert": "root.crt",
    "sslcrl": "root.crl",
    "sslkey": "postgresql.key",
    "sslcert": "postgresql.crt",
}
"""Keys of a PostgreSQL URL that name a file, and the file's name in ~/.postgresql where the URL has no such key."""
_ADVICE: Final = (
    'a password must not be in the config file; leave it out and write password = { file = "path" }, '
    'or the whole URL as url = { env = "NAME" }'
)


class DatabaseUrl:
    """A SQLAlchemy URL with an async driver, or of a SQLite file. In TOML it is a text without a password,
    `{ file = ... }` or `{ env = ... }`. A SQLite file is relative to the config's folder, and opened read-only; in a
    subclass with the `sqlite_mode` `"rwc"`, it is written, and made where it does not exist."""

    __slots__ = ("url",)
    sqlite_mode: ClassVar = "ro"

    def __init__(self, url: URL) -> None:
        self.url = url

    @classmethod
    def from_config(cls, value: Any, directory: Path) -> Self:
        if isinstance(value, str):
            url = _parsed(value, "expected a database URL")
            if url.password is not None or _PASSWORD_KEYS & {key.lower() for key in url.query} or _in_odbc(url):
                raise ValueError(_ADVICE)
        elif isinstance(value, dict):
            secret = Secret.from_config(value, directory)
            url = _parsed(secret.text().strip(), f"expected a database URL in {secret.source}")
        else:
            raise ValueError('expected a database URL such as "sqlite:///var/customers.db"')
        url = url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))
        _require_driver(url)
        return cls(_file(url, directory, cls.sqlite_mode) if url.get_backend_name() == "sqlite" else url)

    def with_password(self, password: Secret | None) -> URL:
        return self.url if password is None else self.url.set(password=password.text())

    def __repr__(self) -> str:
        return f"<{self.url.drivername} URL>"


def _parsed(text: str, what: str) -> URL:
    try:
        return make_url(text)
    except (ArgumentError, ValueError):
        raise ValueError(f'{what} such as "postgresql+asyncpg://user@host/database"') from None


def _in_odbc(url: URL) -> bool:
    connect = url.query.get("odbc_connect", "")
    return "pwd=" in str(connect).lower().replace(" ", "")


def _require_driver(url: URL) -> None:
    """`ValueError` where the driver is not the supported one, or not installed. Making an engine does not connect."""
    supported = _DRIVERS.get(url.get_backend_name(), url.drivername)
    if url.drivername != supported:
        write = "sqlite:///" if url.get_backend_name() == "sqlite" else f"{supported}://"
        raise ValueError(f"the driver of {url.drivername}:// is not supported; write {write}")
    if url.get_backend_name() == "sqlite":
        return
    try:
        create_async_engine(url.set(password=None, host=None, database=None, query={}))
    except NoSuchModuleError:
        raise ValueError(f"SQLAlchemy knows no database {url.drivername!r}") from None
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(url.get_backend_name())
        install = f'; pip install "webio-gateway[{extra}]"' if extra else ""
        raise ValueError(f"the driver {error.name} is not installed{install}") from None
    except InvalidRequestError:
        raise ValueError(f"the driver of {url.drivername}:// is not async") from None


def file_of(url: URL) -> Path | None:
    """The file of a SQLite database; None for any other."""
    if url.get_backend_name() != "sqlite" or url.database is None:
        return None
    return Path(unquote(url.database.removeprefix("file:")))


def forbidden_file(url: URL) -> str | None:
    """A file that a connection to PostgreSQL needs and this user cannot use: asyncpg does not name it."""
    folder = Path(os.environ.get("HOME") or "/", ".postgresql")
    needed = [
        (Path(str(url.query.get(key) or os.environ.get(f"PG{key.upper()}") or folder / name)), os.R_OK)
        for key, name in _OF_POSTGRESQL.items()
    ]
    host = str(url.query.get("host") or url.host or "")
    if host.startswith("/"):
        needed.append((Path(host, f".s.PGSQL.{url.port or 5432}"), os.W_OK))
    for path, mode in needed:
        try:
            path.stat()
        except PermissionError:
            return str(path)
        except OSError:
            continue
        if not os.access(path, mode):
            return str(path)
    return None


def _file(url: URL, directory: Path, mode: str) -> URL:
    if url.database is None or url.database in ("", ":memory:") or url.database.startswith("file:"):
        raise ValueError('expected the path of a SQLite file, such as "sqlite:///var/customers.db"')
    path = quote(str((directory / url.database).absolute()))
    return url.set(database=f"file:{path}", query={**url.query, "mode": mode, "uri": "true"})
