"""Types of config fields: durations and sizes in words, secrets that are never shown.

Any class with `from_config(value, directory)` may be the type of a config field. It gets the TOML value and the folder
of the config file, and raises `ValueError` with a sentence for the operator. `pathlib.Path` fields are read relative to
that folder.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self
from zoneinfo import ZoneInfo

import msgspec

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_NUMBER = r"(\d{1,15}(?:\.\d{1,9})?)\s*"
_SIZE = re.compile(rf"{_NUMBER}({'|'.join(_BYTES)})", re.ASCII)
_DURATION = re.compile(rf"{_NUMBER}(ms|s|m|h|d)\s*", re.ASCII)
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*", re.ASCII)
_LONGEST = 36500 * 86400  # seconds by which a datetime can still be moved
_LARGEST_SECRET = 2**16
_LONGEST_SHOWN = 120
# A path or a name made of words, not the secret itself: random text mixes upper and lower case, or is longer.
_WORD = r"(?>[A-Z0-9]{1,20}(?![A-Za-z0-9])|[A-Z]?[a-z0-9]{1,20})"
_STEP = rf"(?:\.{{1,2}}|~|\.?{_WORD}(?:[._-]{_WORD})*)"
_WORDY_PATH = re.compile(rf"(?:/?(?:{_STEP}/)+{_STEP}|/{_STEP}|{_WORD}(?:[_-]{_WORD})*\.[a-z]{{2,8}})", re.ASCII)
_WORDY_NAME = re.compile(rf"[A-Z][A-Z0-9]{{0,19}}|{_WORD}(?:_{_WORD})+", re.ASCII)
_CREDENTIAL = re.compile(
    r"://[^/?#\s]*@|-----BEGIN |\b(?:bearer|basic)\s+\S|[?&;](?:\w*(?:key|token|secret|sig|password))=|eyJ[\w-]+\."
    r"|\b(?:whsec_|gh[pousr]_|[sp]k_(?:live|test)_|xox[a-z]-|AKIA)\w",
    re.IGNORECASE,
)
_RANDOM = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[A-Za-z0-9+/=_.~!@#$%^&*-]+")
_RANDOM_LENGTH = 16


ExclusivePath = Annotated[Path, msgspec.Meta(extra={"exclusive": True})]
"""A path that only one plugin may use: two plugins that name the same path are an error of the config."""


class Duration(float):
    """Seconds; in TOML a string such as `"30s"`, `"1h30m"`, `"250ms"`, `"30d"`."""

    allows_zero: ClassVar = True

    @classmethod
    def from_config(cls, value: Any, directory: Path) -> Self:
        parts = _DURATION.findall(value) if isinstance(value, str) else []
        if not parts or _DURATION.sub("", value).strip():
            raise ValueError(f'expected a duration such as "30s", "5m" or "24h", found {show(value)}')
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
        if seconds > _LONGEST:
            raise ValueError(f'expected a duration of at most "36500d", found {show(value)}')
        if not seconds and not cls.allows_zero:
            raise ValueError(f"expected a duration longer than 0 s, found {show(value)}")
        return cls(seconds)


class Size(int):
    """Bytes; in TOML a string such as `"1 MiB"`, `"512 KiB"`, `"10 GiB"`."""

    least: ClassVar = 0
    most: ClassVar = 2**50
    limits: ClassVar = 'of at most "1024 TiB"'

    @classmethod
    def from_config(cls, value: Any, directory: Path) -> Self:
        match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
        if match is None:
            raise ValueError(f'expected a size such as "1 MiB" or "10 GiB", found {show(value)}')
        size = float(match[1]) * _BYTES[match[2]]
        if not cls.least <= size <= cls.most:
            raise ValueError(f"expected a size {cls.limits}, found {show(value)}")
        return cls(size)


class Secret:
    """A secret from a file or an environment variable; never in the config file itself, never in a repr."""

    __slots__ = ("_value", "source")

    def __init__(self, value: bytes | Callable[[], bytes], source: str) -> None:
        self._value = value
        self.source = source

    @classmethod
    def from_config(cls, value: Any, directory: Path) -> Self:
        kind, where = _reference(value, directory)
        if kind == "file":
            return cls(_from_file(directory / where, where), f"file {where}")
        return cls(_from_env(where), f"environment variable {where}")

    @classmethod
    def unread(cls, value: Any, directory: Path) -> Self:
        """Like `from_config`, but reads the file or variable only when `value` is asked for: for commands that need no
        secret, and must work without one."""
        kind, _ = _reference(value, directory)
        return cls(lambda: cls.from_config(value, directory).value, f"{kind}, not read yet")

    @property
    def value(self) -> bytes:
        """The secret's bytes. `ValueError` where the secret is `unread` and cannot be read."""
        if not isinstance(self._value, bytes):
            self._value = self._value()
        return self._value

    def text(self) -> str:
        """The secret as a string; `ValueError` where it is not UTF-8."""
        try:
            return self.value.decode()
        except UnicodeDecodeError:
            raise ValueError(f"the secret in {self.source} is not UTF-8 text") from None

    def __repr__(self) -> str:
        return f"<secret from {self.source}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.value == self.value

    def __hash__(self) -> int:
        return hash(self.value)


class Network:
    """An address or a network such as `10.0.0.0/8`. It contains an IPv4 address in its IPv6 form too."""

    def __init__(self, network: IPv4Network | IPv6Network) -> None:
        self.network = network

    @classmethod
    def from_config(cls, value: Any, directory: Path) -> Self:
        try:
            if isinstance(value, str):
                return cls(ip_network(value))
        except ValueError as error:
            if "host bits" in str(error):
                network = ip_network(value, strict=False)
                raise ValueError(
                    f"expected a network, found an address in it: {show(value)}; write {show(str(network))}"
                ) from None
        raise ValueError(f'expected an address or a network such as "10.0.0.0/8", found {show(value)}')

    def __contains__(self, address: str) -> bool:
        try:
            found = ip_address(address)
        except ValueError:
            return False
        if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
            return found in self.network or found.ipv4_mapped in self.network
        return found in self.network

    def __repr__(self) -> str:
        return str(self.network)


class OrganisationName(str):
    """The name of an organisation of the config. The reader of the config checks that it exists."""

    __slots__ = ()


class Zone(ZoneInfo):
    """An IANA time zone."""

    @classmethod
    def from_config(cls, value: Any, directory: Path) -> Self:
        try:
            return cls(value)
        except (ValueError, TypeError, OSError, KeyError):
            raise ValueError(f'expected a time zone such as "Europe/Dublin", found {show(value)}') from None


def path_from(value: Any, directory: Path) -> Path:
    """A path relative to the config file's folder. `ValueError` where `value` is not a path."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"expected a path, found {show(value)}")
    if not value.isprintable():
        raise ValueError("expected a path, found a string with control characters")
    return directory / value


def may_be_secret(text: str) -> bool:
    """Whether a text looks like a credential: a URL with a password, an authorization header, a key, or random text."""
    if _CREDENTIAL.search(text) is not None:
        return True
    word = len(text) >= _RANDOM_LENGTH and _RANDOM.fullmatch(text) is not None
    return word and not (_WORDY_PATH.fullmatch(text) or _WORDY_NAME.fullmatch(text))


def show(value: Any) -> str:
    """A TOML value in an error message: at most 80 characters on one line, tables and arrays by their kind only, and
    nothing that may be a secret."""
    match value:
        case dict():
            return "a table"
        case list():
            return "an array"
        case str() if may_be_secret(value):
            return "a string that may be a secret"
        case str():
            return json.dumps(value, ensure_ascii=not value.isprintable()) if len(value) <= 80 else "a long string"
        case bool():
            return f"{str(value).lower()} (a boolean)"
        case int() if abs(value) >= 2**63:
            return "a very large number"
        case int() | float():
            return f"{value} (a number)"
    return f"{value} (a {type(value).__name__})"


def _reference(value: Any, directory: Path) -> tuple[str, str]:
    """`file` or `env`, and the path or name. `ValueError` for any other value, which may be the secret: not shown."""
    if isinstance(value, dict) and len(value) == 1:
        [(kind, where)] = value.items()
        if kind == "file":
            path_from(where, directory)
            return kind, where
        if kind == "env" and isinstance(where, str):
            if not _ENV_NAME.fullmatch(where):
                raise ValueError("expected the name of an environment variable in { env = ... }")
            return kind, where
    if isinstance(value, str):
        raise ValueError('a secret must not be in the config file; write { file = "path" } or { env = "NAME" }')
    raise ValueError('expected { file = "path" } or { env = "NAME" }')


def _from_file(path: Path, where: str) -> bytes:
    try:
        with path.open("rb") as file:
            value = file.read(_LARGEST_SECRET + 1).rstrip(b"\r\n")
    except FileNotFoundError:
        if not _looks_like_a_path(where):
            advice = "write the path of a file that contains the secret, not the secret itself"
            raise ValueError(f"the secret file that is named here does not exist; {advice}") from None
        raise ValueError(f"the secret file {path} does not exist") from None
    except OSError as error:
        named = "that is named here" if error.errno == errno.ENAMETOOLONG else path
        raise ValueError(f"the secret file {named} cannot be read: {error.strerror}") from None
    if not value:
        raise ValueError(f"the secret file {path} is empty")
    if len(value) > _LARGEST_SECRET:
        raise ValueError(f"the secret file {path} has more than {_LARGEST_SECRET} bytes")
    return value


def _from_env(name: str) -> bytes:
    value = os.environb.get(name.encode()) if os.supports_bytes_environ else os.environ.get(name, "").encode()
    if value is None:
        if not _looks_like_a_variable(name):
            raise ValueError(
                "the environment variable that is named here is not set; write its name, not the secret itself"
            )
        raise ValueError(f"the environment variable {name} is not set")
    if not value:
        raise ValueError(f"the environment variable {name} is empty")
    return value


def _looks_like_a_path(text: str) -> bool:
    """Whether an error message may repeat it: a secret pasted in place of its path does not look like a path."""
    return len(text) <= _LONGEST_SHOWN and _WORDY_PATH.fullmatch(text) is not None


def _looks_like_a_variable(name: str) -> bool:
    return len(name) <= _LONGEST_SHOWN and _WORDY_NAME.fullmatch(name) is not None
