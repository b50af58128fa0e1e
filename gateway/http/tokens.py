"""Verifies `x-webio-token` and finds the organisation that it belongs to.

PyJWT verifies every signature; the checks around it only refuse more tokens. The reason of a refusal is for the
operator's log, never for the caller. Of the token's content it repeats only the names of known algorithms and times.
"""

from __future__ import annotations

import binascii
import json
import math
import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final, Literal, NamedTuple

import jwt
import msgspec

from gateway.config.rules import same_value
from gateway.config.tables import OrganisationSettings
from gateway.http.secret_uses import SecretUse, SecretUses
from gateway.json_text import deeper_than
from gateway.text import counted

HEADER: Final = b"x-webio-token"
MAX_BYTES: Final = 4096
MAX_DEPTH: Final = 16
Code = Literal["missing", "repeated", "malformed", "algorithm", "signature", "claims", "issued", "early", "expired"]

_ALPHABET = re.compile(rb"[A-Za-z0-9_.-]*")
_ALGORITHM_NAMES = frozenset(jwt.algorithms.requires_cryptography) | {"none", "HS256", "HS384", "HS512"}
# Header parameters that contain a key or change what is signed. A token of a configured secret needs none of them.
_REFUSED_PARAMETERS = ("b64", "crit", "enc", "jku", "jwk", "x5c", "x5t", "x5t#S256", "x5u", "zip")
_jws = jwt.PyJWS(["HS256", "HS384", "HS512"], {"verify_signature": True, "enforce_minimum_key_length": True})


class Accepted(NamedTuple):
    organisation: str
    claims: dict[str, Any]


class TokenRefused(Exception):
    """`code` is for a metric, `reason` a sentence for the operator. `fingerprint` is None unless the request has one
    token. The caller gets none of them."""

    def __init__(self, code: Code, reason: str, fingerprint: str | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.fingerprint = fingerprint


class _RepeatedKey(ValueError):
    pass


class TokenChecker:
    """Verifies tokens, and caches the `cache_size` valid ones used last. Not thread-safe."""

    def __init__(
        self,
        organisations: Mapping[str, OrganisationSettings],
        *,
        clock: Callable[[], float] = time.time,
        cache_size: int = 1024,
        before: TokenChecker | None = None,
    ) -> None:
        """`before` is the checker that this one replaces: it knows when secrets were used."""
        self._organisations = dict(organisations)
        self._clock = clock
        self._cache_size = cache_size
        self._cache: OrderedDict[bytes, tuple[str, float, float, SecretUse]] = OrderedDict()
        self.uses: SecretUses = SecretUses(organisations, None if before is None else before.uses)

    def check(self, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """The organisation of a request with these headers (lower-case names). `TokenRefused` without a valid token."""
        token: bytes | None = None
        for name, value in headers:
            if name == HEADER:
                if token is not None:
                    raise TokenRefused("repeated", "the request has more than one x-webio-token header")
                token = value
        if token is None:
            raise TokenRefused("missing", "the request has no x-webio-token header")
        key = sha256(token).digest()
        return self._cached(key) or self._remember(key, token)

    def cached(self, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """As `check`, but None unless the request has one token, and the cache has it as one that is valid now."""
        tokens = [value for name, value in headers if name == HEADER]
        return self._cached(sha256(tokens[0]).digest()) if len(tokens) == 1 else None

    def _cached(self, key: bytes) -> str | None:
        known, now = self._cache.get(key), self._clock()
        if known is None or not known[1] <= now < known[2]:
            return None
        known[3].at = now
        self._cache.move_to_end(key)
        return known[0]

    def verify(self, token: bytes) -> Accepted:
        """Verify a token without the cache."""
        return self._verify(token)[0]

    def _remember(self, key: bytes, token: bytes) -> str:
        accepted, secret, earliest, latest = self._verify(token)
        use = self.uses.of(accepted.organisation, secret)
        use.at = self._clock()
        self._cache[key] = (accepted.organisation, earliest, latest, use)
        self._cache.move_to_end(key)
        while len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)
        return accepted.organisation

    def _verify(self, token: bytes) -> tuple[Accepted, bytes, float, float]:
        """The token's organisation and claims, the secret that verified it, and the times between which it is valid:
        from the first until before the second."""
        try:
            name, secret, claims = self._authenticate(token)
            earliest, latest = _check_times(claims, self._organisations[name], self._clock())
        except TokenRefused as refused:
            refused.fingerprint = fingerprint(token)
            raise
        return Accepted(name, claims), secret, earliest, latest

    def _authenticate(self, token: bytes) -> tuple[str, bytes, dict[str, Any]]:
        """The organisation whose secret verifies the token and, of several with that secret, whose claims match; that
        secret; and the claims."""
        algorithm, signature = _read_envelope(token)
        signers = list(self._signers(algorithm, token.rpartition(b".")[0], signature))
        if not signers:
            tried = [len(o.secrets) for o in self._organisations.values() if algorithm in o.algorithms]
            counts = f"{counted(sum(tried), 'secret')} of {counted(len(tried), 'organisation')}"
            raise TokenRefused("signature", f"no secret verifies its signature (tried: {counts})")
        claims = _read_claims(token, algorithm, signers[0][1])
        faults = {name: _claims_fault(name, self._organisations[name], claims) for name, _ in signers}
        for name, secret in signers:
            if faults[name] is None:
                return name, secret, claims
        raise TokenRefused("claims", "; ".join(fault for fault in faults.values() if fault is not None))

    def _signers(self, algorithm: str, signed: bytes, signature: bytes) -> Iterator[tuple[str, bytes]]:
        allowed = {a for organisation in self._organisations.values() for a in organisation.algorithms}
        if algorithm not in allowed:
            found = f" {algorithm}" if algorithm in _ALGORITHM_NAMES else ""
            raise TokenRefused("algorithm", f"its algorithm{found} is not among {', '.join(sorted(allowed))}")
        verifier = _jws.get_algorithm_by_name(algorithm)
        for name, organisation in self._organisations.items():
            if algorithm in organisation.algorithms:
                for secret in organisation.secrets:
                    if verifier.verify(signed, secret.value, signature):
                        yield name, secret.value


def fingerprint(token: bytes) -> str:
    """12 hex digits that identify a token in a log without revealing it."""
    return sha256(token).hexdigest()[:12]


def mint(
    organisation: OrganisationSettings,
    *,
    claims: Mapping[str, Any] | None = None,
    expires_in: float | None = None,
    now: float | None = None,
) -> str:
    """A token signed with the organisation's first secret and algorithm. It has `iat`, the required claims, `claims`
    (which replace these), and `exp` after `expires_in` seconds. `ValueError` where such a token cannot be made."""
    issued = math.floor(time.time() if now is None else now)
    payload = {"iat": issued, **organisation.claims, **(claims or {})}
    if expires_in is not None:
        payload["exp"] = math.ceil(issued + expires_in)
    try:
        text = json.dumps(payload, allow_nan=False, separators=(",", ":"))
        token = _jws.encode(text.encode(), organisation.secrets[0].value, organisation.algorithms[0])
    except (TypeError, ValueError, RecursionError, jwt.PyJWTError) as error:
        raise ValueError(f"no token can be made: {error}") from None
    if len(token) > MAX_BYTES:
        raise ValueError(f"no token can be made: it would have {len(token)} bytes; at most {MAX_BYTES} are accepted")
    return token


def _read_envelope(token: bytes) -> tuple[str, bytes]:
    """The token's algorithm and signature, after the checks that need no secret."""
    if len(token) > MAX_BYTES:
        raise _malformed(f"it is longer than {MAX_BYTES} bytes")
    if not _ALPHABET.fullmatch(token):
        raise _malformed("it contains characters other than A-Z a-z 0-9 - _ .")
    segments = token.split(b".")
    if len(segments) != 3 or not all(segments):
        raise _malformed("it does not have three segments separated by dots")
    header, _, signature = map(_decode_segment, segments)
    parameters = _read_object(header, "header")
    for parameter in _REFUSED_PARAMETERS:
        if parameter in parameters:
            raise _malformed(f"its header has {parameter!r}, which is not supported")
    if not isinstance(parameters.get("kid", ""), str) or not isinstance(parameters.get("typ", ""), str):
        raise _malformed("its header has a 'kid' or 'typ' that is not a string")
    algorithm = parameters.get("alg")
    if not isinstance(algorithm, str):
        raise TokenRefused("algorithm", "its header names no algorithm")
    return algorithm, signature


def _read_claims(token: bytes, algorithm: str, secret: bytes) -> dict[str, Any]:
    try:
        payload = _jws.decode(token, secret, [algorithm])
    except jwt.PyJWTError as error:
        raise TokenRefused("signature", f"PyJWT refuses it ({type(error).__name__})") from None
    return _read_object(payload, "payload")


def _decode_segment(segment: bytes) -> bytes:
    """Decode base64url in its canonical form only, so that a token has one spelling."""
    try:
        data = urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))
    except binascii.Error:
        raise _malformed("a segment is not base64url") from None
    if urlsafe_b64encode(data).rstrip(b"=") != segment:
        raise _malformed("a segment is not in canonical base64url")
    return data


def _read_object(data: bytes, part: str) -> dict[str, Any]:
    """A JSON object that all parsers read alike: UTF-8, finite numbers, no repeated keys, no deep nesting."""
    try:
        msgspec.json.decode(data)
        value = json.loads(data, object_pairs_hook=_unique)
    except _RepeatedKey:
        raise _malformed(f"its {part} has the same key twice") from None
    except (ValueError, RecursionError):
        raise _malformed(f"its {part} is not JSON") from None
    if not isinstance(value, dict):
        raise _malformed(f"its {part} is not a JSON object")
    if deeper_than(value, MAX_DEPTH):
        raise _malformed(f"its {part} is nested deeper than {MAX_DEPTH} levels")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _RepeatedKey
    return found


def _claims_fault(name: str, organisation: OrganisationSettings, claims: dict[str, Any]) -> str | None:
    for claim, required in organisation.claims.items():
        if claim not in claims:
            return f"it has no claim {claim!r}, which {name} requires"
        if not same_value(claims[claim], required):
            return f"its claim {claim!r} does not have the value that {name} requires"
    return None


def _check_times(claims: dict[str, Any], organisation: OrganisationSettings, now: float) -> tuple[float, float]:
    leeway = float(organisation.leeway)
    issued, not_before, expires = (_read_time(claims, name) for name in ("iat", "nbf", "exp"))
    if organisation.issued_after is not None:
        after = organisation.issued_after.timestamp()
        if issued is None:
            raise TokenRefused("issued", "it has no claim 'iat', which issued_after requires")
        if issued < after:
            raise TokenRefused("issued", f"issued at {_show(issued)}, before issued_after ({_show(after)})")
    earliest = max((moment - leeway for moment in (issued, not_before) if moment is not None), default=-math.inf)
    latest = math.inf if expires is None else expires + leeway
    if now < earliest:
        moment = max(moment for moment in (issued, not_before) if moment is not None)
        raise TokenRefused("early", f"not valid before {_show(moment)}")
    if now >= latest:
        raise TokenRefused("expired", f"expired at {_show(latest - leeway)}")
    return earliest, latest


def _read_time(claims: dict[str, Any], name: str) -> float | None:
    if name not in claims:
        return None
    value = claims[name]
    try:
        if type(value) in (int, float):
            return float(value)
    except OverflowError:
        pass
    raise _malformed(f"its claim {name!r} is not a number of seconds since 1970")


def _show(moment: float) -> str:
    try:
        return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return "a time outside the years 1 to 9999"


def _malformed(reason: str) -> TokenRefused:
    return TokenRefused("malformed", reason)
