"""Tokens that must be refused, each bad in one way and good in every other.

`bad_tokens(secret)` is bad for every organisation with this secret, HS256 and a leeway under an hour, whatever claims
it requires; `bad_claims(secret)` only for one that requires `REQUIRED`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

REQUIRED = {"organisation": "acme", "tenant": 7}
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_PUBLIC_KEY = b"""-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEVs/o5+uQbTjL3chynL4wXgUg2R9
q9UU8I5mEovUf86QZ7kOBIjJwqnzD1omageEHWwHdBO6B+dFabmdT9POxg==
-----END PUBLIC KEY-----
"""

Part = bytes | dict[str, Any]


def b64(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


def sign(secret: bytes, header_segment: bytes, payload_segment: bytes, digest: str = "sha256") -> bytes:
    signed = header_segment + b"." + payload_segment
    return signed + b"." + b64(hmac.digest(secret, signed, digest))


def token(secret: bytes, payload: Part | None = None, header: Part | None = None, digest: str = "sha256") -> bytes:
    """A signed token of anything; by default a good one."""
    return sign(secret, b64(_json(header, {"alg": "HS256", "typ": "JWT"})), b64(_json(payload, REQUIRED)), digest)


def bad_tokens(secret: bytes) -> list[tuple[str, bytes]]:
    """(what is wrong, the token's bytes)"""
    groups: tuple[Any, ...] = (_algorithms, _secrets, _signatures, _parameters, _spellings, _segments)
    groups += (_keys, _encodings, _nesting, _numbers, _times, _no_objects, _sizes, _other_things)
    found = [(f"{group.__name__[1:]}: {name}", value) for group in groups for name, value in group(secret).items()]
    assert len({name for name, _ in found}) == len(found)
    return found


def bad_claims(secret: bytes) -> list[tuple[str, bytes]]:
    """Well signed tokens without the claims `REQUIRED`, or almost with them."""
    changes: dict[str, dict[str, Any]] = {
        "other case": {"organisation": "Acme"},
        "upper case": {"organisation": "ACME"},
        "space after": {"organisation": "acme "},
        "a list": {"organisation": ["acme"]},
        "an object": {"organisation": {"acme": True}},
        "null": {"organisation": None},
        "empty": {"organisation": ""},
        "true": {"organisation": True},
        "prefix": {"organisation": "acm"},
        "longer": {"organisation": "acme2"},
        "homoglyph": {"organisation": "аcme"},
        "NUL after": {"organisation": "acme\0"},
        "number as text": {"tenant": "7"},
        "number as float": {"tenant": 7.0},
        "number in a list": {"tenant": [7]},
        "other number": {"tenant": 8},
        "number as true": {"tenant": True},
    }
    found = [(f"claims: {name}", token(secret, {**REQUIRED, **change})) for name, change in changes.items()]
    found += [
        (f"claims: no {name}", token(secret, {k: v for k, v in REQUIRED.items() if k != name})) for name in REQUIRED
    ]
    found.append(("claims: other spelling of the name", token(secret, {"Organisation": "acme", "tenant": 7})))
    found.append(("claims: nested", token(secret, {"claims": REQUIRED})))
    found.append(("claims: in the header", token(secret, {}, {"alg": "HS256", **REQUIRED})))
    found.append(("claims: none", token(secret, {})))
    return found


def _json(part: Part | None, default: dict[str, Any]) -> bytes:
    if isinstance(part, bytes):
        return part
    return json.dumps(default if part is None else part, separators=(",", ":")).encode()


def _with_alg(secret: bytes, alg: Any, digest: str = "sha256") -> bytes:
    return token(secret, header={"alg": alg, "typ": "JWT"}, digest=digest)


def _algorithms(secret: bytes) -> dict[str, bytes]:
    found = {}
    for none in ("none", "None", "NONE", "nOnE"):
        unsigned = _with_alg(secret, none).rpartition(b".")[0]
        found[f"{none}, without signature"] = unsigned + b"."
        found[f"{none}, signed"] = _with_alg(secret, none)
        found[f"{none}, with any signature"] = unsigned + b".AAAA"
    others: tuple[str, ...] = (
        "hs256",
        "Hs256",
        "HS256 ",
        " HS256",
        "HS256\0",
        "HS-256",
        "HS1",
        "",
        "RS256",
        "ES256",
        "PS256",
    )
    others += ("EdDSA", "RS1", "dir", "A128KW", "A256GCM", "none,HS256", "HS256,none", "X" * 1500, "HＳ256")
    found |= {f"alg {alg[:12]!r}": _with_alg(secret, alg) for alg in others}
    odd: tuple[Any, ...] = (None, True, 256, 2.56, ["HS256"], ["none"], {"HS256": True}, [], {})
    found |= {f"alg {json.dumps(alg)}": _with_alg(secret, alg) for alg in odd}
    found["no alg"] = token(secret, header={"typ": "JWT"})
    found["empty header"] = token(secret, header={})
    found["Alg"] = token(secret, header={"Alg": "HS256"})
    found["HS384, well signed"] = _with_alg(secret, "HS384", "sha384")
    found["HS512, well signed"] = _with_alg(secret, "HS512", "sha512")
    found["HS256, signed as HS512"] = _with_alg(secret, "HS256", "sha512")
    found["alg in the payload only"] = token(secret, {**REQUIRED, "alg": "HS256"}, {"typ": "JWT"})
    return found


def _secrets(secret: bytes) -> dict[str, bytes]:
    keys = {
        "wrong": b"another secret of thirty-two bytes or more",
        "empty": b"",
        "one byte short": secret[:-1],
        "line break after": secret + b"\n",
        "one byte more": secret + b"x",
        "its base64": b64(secret),
        "its hex digits": secret.hex().encode(),
        "twice": secret * 2,
        "a public key": _PUBLIC_KEY,
        "a public key without line breaks": _PUBLIC_KEY.replace(b"\n", b""),
    }
    keys |= {word: word.encode() for word in ("secret", "null", "undefined", "changeme", "your-256-bit-secret")}
    return {name: token(key) for name, key in keys.items()}


def _signatures(secret: bytes) -> dict[str, bytes]:
    good = token(secret)
    signed, _, segment = good.rpartition(b".")
    signature = urlsafe_b64decode(segment + b"=")
    header, payload = signed.split(b".")
    other = token(secret, {**REQUIRED, "sub": "other"}).rpartition(b".")[2]
    found = {
        "one byte short": signature[:-1],
        "one byte more": signature + b"\0",
        "half": signature[:16],
        "one byte": signature[:1],
        "zeros": bytes(32),
        "one bit other": bytes([signature[0] ^ 1]) + signature[1:],
        "hex digits": signature.hex().encode(),
        "base64 twice": segment,
        "twice": signature * 2,
        "of the payload only": hmac.digest(secret, payload, "sha256"),
        "of the header only": hmac.digest(secret, header, "sha256"),
        "of the decoded parts": hmac.digest(secret, urlsafe_b64decode(header + b"==") + b"." + payload, "sha256"),
        "plain SHA-256 without key": hashlib.sha256(signed).digest(),
    }
    tokens = {name: signed + b"." + b64(value) for name, value in found.items()}
    tokens["of another token"] = signed + b"." + other
    tokens["of an earlier payload"] = header + b"." + b64(b'{"organisation":"other"}') + b"." + segment
    return tokens


def _parameters(secret: bytes) -> dict[str, bytes]:
    """Header parameters that name a key, or change what is signed."""
    found = {}
    for kid in ("../../../../dev/null", "/dev/null", "x' UNION SELECT 'key';--", "key|id", "http://127.0.0.1:9/k", ""):
        found[f"kid {kid!r}, empty key"] = token(b"", header={"alg": "HS256", "kid": kid})
    others: tuple[Any, ...] = (1, None, [], {})
    found |= {f"kid {json.dumps(kid)}": token(secret, header={"alg": "HS256", "kid": kid}) for kid in others}
    attackers = b"attacker's key, long enough for HS256"
    jwk = {"kty": "oct", "k": b64(attackers).decode()}
    parameters: dict[str, Any] = {
        "jwk": jwk,
        "jku": "http://127.0.0.1:9/keys.json",
        "x5u": "http://127.0.0.1:9/cert.pem",
        "x5c": ["MIIB"],
        "x5t": "dGVzdA",
        "x5t#S256": "dGVzdA",
        "zip": "DEF",
        "enc": "A256GCM",
        "b64": False,
        "crit": ["exp"],
    }
    for name, value in parameters.items():
        header = {"alg": "HS256", name: value}
        found[f"{name}, signed with the attacker's key"] = token(attackers, header=header)
        found[f"{name}, well signed"] = token(secret, header=header)
    crits: tuple[Any, ...] = ([], None, "b64", ["b64"], ["alg"], [1], {}, True)
    for crit in crits:
        found[f"crit {json.dumps(crit)}"] = token(secret, header={"alg": "HS256", "crit": crit})
    found["crit b64, b64 true"] = token(secret, header={"alg": "HS256", "crit": ["b64"], "b64": True})
    found["typ 1"] = token(secret, header={"alg": "HS256", "typ": 1})
    raw = b64(b'{"alg":"HS256","b64":false,"crit":["b64"]}')
    found["unencoded payload"] = raw + b".{}." + b64(hmac.digest(secret, raw + b".{}", "sha256"))
    found["detached payload"] = raw + b".." + b64(hmac.digest(secret, raw + b".", "sha256"))
    return found


def _spellings(secret: bytes) -> dict[str, bytes]:
    """Other spellings of a good token, each well signed where that is possible."""
    good = token(secret)
    header, payload, signature = good.split(b".")
    found = {
        "space before": b" " + good,
        "space after": good + b" ",
        "tab after": good + b"\t",
        "line break after": good + b"\n",
        "CR LF after": good + b"\r\n",
        "NUL after": good + b"\0",
        "NUL before": b"\0" + good,
        "space inside": good[:9] + b" " + good[9:],
        "no-break space": good + b"\xc2\xa0",
        "byte order mark": b"\xef\xbb\xbf" + good,
        "Bearer": b"Bearer " + good,
        "quoted": b'"' + good + b'"',
        "twice with a comma": good + b", " + good,
        "percent-encoded dots": good.replace(b".", b"%2E"),
        "full-width dots": good.replace(b".", "．".encode()),
        "UTF-16": good.decode().encode("utf-16"),
        "upper case": good.upper(),
        "plus": header + b"+." + payload + b"." + signature,
        "slash": header + b"/." + payload + b"." + signature,
        "padded signature": good + b"=",
        "overpadded signature": good + b"===",
        "padded header": sign(secret, b64(b'{"alg":"HS256" }') + b"==", payload),
        "padded payload": sign(secret, header, b64(b'{"a":1}') + b"=="),
        "letter too many in the signature": good + b"AA",
        "impossible length of the header": sign(secret, header + b"A" * ((1 - len(header)) % 4), payload),
        "impossible length of the payload": sign(secret, header, payload + b"A" * ((1 - len(payload)) % 4)),
        "impossible length of the signature": good + b"A" * ((1 - len(signature)) % 4),
        "spare bits in the signature": good[:-1] + _spare_bits(good[-1:]),
    }
    odd_header, odd_payload = b64(b'{"alg":"HS256"}  '[:16]), b64(b'{"a":1}')
    found["spare bits in the header"] = sign(secret, odd_header[:-1] + _spare_bits(odd_header[-1:]), payload)
    found["spare bits in the payload"] = sign(secret, header, odd_payload[:-1] + _spare_bits(odd_payload[-1:]))
    return found


def _spare_bits(letter: bytes) -> bytes:
    """The next letter: it differs in a bit that base64 throws away at the end."""
    index = _ALPHABET.index(letter)
    return _ALPHABET[index + 1 : index + 2]


def _segments(secret: bytes) -> dict[str, bytes]:
    good = token(secret)
    header, payload, signature = good.split(b".")
    return {
        "nothing": b"",
        "one": header,
        "two": header + b"." + payload,
        "four": good + b"." + signature,
        "four with an empty one": good + b".",
        "five": good + b"." + payload + b"." + signature,
        "a dot": b".",
        "two dots": b"..",
        "three dots": b"...",
        "only dots": b"." * 4000,
        "no header": b"." + payload + b"." + signature,
        "no payload": header + b".." + signature,
        "no payload, well signed": sign(secret, header, b""),
        "no header, well signed": sign(secret, b"", payload),
        "no signature": header + b"." + payload + b".",
        "dot before": b"." + good,
        "payload first": payload + b"." + header + b"." + signature,
    }


def _keys(secret: bytes) -> dict[str, bytes]:
    headers = {
        "alg twice": b'{"alg":"HS256","alg":"HS256"}',
        "alg none, then HS256": b'{"alg":"none","alg":"HS256"}',
        "alg HS256, then none": b'{"alg":"HS256","alg":"none"}',
        "alg twice, one escaped": b'{"alg":"HS256","\\u0061lg":"HS256"}',
        "typ twice": b'{"alg":"HS256","typ":"JWT","typ":"JWT"}',
    }
    payloads = {
        "exp twice": b'{"exp":1,"exp":99999999999}',
        "claim twice": b'{"organisation":"acme","organisation":"acme"}',
        "claim twice, other value": b'{"organisation":"other","organisation":"acme"}',
        "key twice deeper": b'{"a":{"b":1,"b":2}}',
        "key twice in a list": b'{"a":[{"b":1,"b":1}]}',
        "empty key twice": b'{"":1,"":2}',
    }
    found = {f"header with {name}": token(secret, header=header) for name, header in headers.items()}
    return found | {f"payload with {name}": token(secret, payload) for name, payload in payloads.items()}


def _encodings(secret: bytes) -> dict[str, bytes]:
    header, payload = '{"alg":"HS256"}', '{"organisation":"acme","tenant":7}'
    found = {}
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"):
        found[f"header in {encoding}"] = token(secret, header=header.encode(encoding))
        found[f"payload in {encoding}"] = token(secret, payload.encode(encoding))
    tails = {
        "NUL": b"\0",
        "line of another": b"{}",
        "comment": b"//",
        "form feed": b"\f",
        "no-break space": b"\xc2\xa0",
    }
    for name, tail in tails.items():
        found[f"{name} after the header"] = token(secret, header=header.encode() + tail)
        found[f"{name} after the payload"] = token(secret, payload.encode() + tail)
    texts = {
        "invalid UTF-8": b"\xff",
        "overlong UTF-8": b"\xc0\xaf",
        "surrogate in UTF-8": b"\xed\xa0\x80",
        "cut UTF-8": b"\xe2\x82",
        "lone surrogate": b"\\ud800",
        "raw NUL": b"\0",
        "raw line break": b"\n",
        "bad escape": b"\\x41",
    }
    for name, text in texts.items():
        found[f"{name} in the header"] = token(secret, header=b'{"alg":"HS256","cty":"' + text + b'"}')
        found[f"{name} in the payload"] = token(secret, b'{"sub":"' + text + b'"}')
    return found


def _nesting(secret: bytes) -> dict[str, bytes]:
    def lists(depth: int) -> bytes:
        return b"[" * depth + b"]" * depth

    def objects(depth: int) -> bytes:
        return b'{"a":' * depth + b"1" + b"}" * depth

    return {
        "header of lists, 1,400 deep": token(secret, header=b'{"alg":"HS256","a":' + lists(1400) + b"}"),
        "payload of lists, 1,400 deep": token(secret, b'{"a":' + lists(1400) + b"}"),
        "payload of objects, 450 deep": token(secret, objects(450)),
        "payload of lists, 17 deep": token(secret, b'{"a":' + lists(17) + b"}"),
        "header of lists, 17 deep": token(secret, header=b'{"alg":"HS256","a":' + lists(17) + b"}"),
        "open brackets only": token(secret, b"[" * 2900),
        "open braces only": token(secret, b'{"a":' * 580),
        "header of open brackets": token(secret, header=b"[" * 2900),
        "payload of lists, 100,000 deep": token(secret, b'{"a":' + lists(100_000) + b"}"),
        "header of lists, 100,000 deep": token(secret, header=b'{"alg":"HS256","a":' + lists(100_000) + b"}"),
    }


def _numbers(secret: bytes) -> dict[str, bytes]:
    def payload(claim: bytes, number: bytes) -> bytes:
        return b'{"organisation":"acme","tenant":7,"%s":%s}' % (claim, number)

    digits = {"400": b"9" * 400, "2,900": b"9" * 2900, "5,000": b"9" * 5000}
    found = {f"exp of {name} digits": token(secret, payload(b"exp", number)) for name, number in digits.items()}
    found["iat of minus 400 digits"] = token(secret, payload(b"iat", b"-" + b"9" * 400))
    for number in (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"01", b"+1", b"1.", b".5", b"0x7fffffff"):
        name = number.decode()
        found[f"exp {name}"] = token(secret, payload(b"exp", number))
        found[f"{name} elsewhere"] = token(secret, payload(b"n", number))
        found[f"{name} in the header"] = token(secret, header=b'{"alg":"HS256","n":' + number + b"}")
    return found


def _times(secret: bytes) -> dict[str, bytes]:
    now = int(time.time())
    found = {}
    for claim in ("exp", "nbf", "iat"):
        soon = now + 3600 if claim == "exp" else now - 3600  # good, were it a number
        texts = (str(soon), f"{soon}.0", "", "never", "2099-01-01T00:00:00Z")
        for value in (*texts, None, True, False, [soon], [], {"seconds": soon}, {}):
            found[f"{claim} {json.dumps(value).replace(str(soon), 'good')}"] = token(secret, {**REQUIRED, claim: value})
    good = {**REQUIRED, "iat": now - 86400}
    found |= {
        "expired an hour ago": token(secret, {**good, "exp": now - 3600}),
        "expired, as a float": token(secret, {**good, "exp": now - 3600.5}),
        "exp 0": token(secret, {**good, "exp": 0}),
        "exp -1": token(secret, {**good, "exp": -1}),
        "exp -1e300": token(secret, {**good, "exp": -1e300}),
        "exp before iat": token(secret, {**good, "exp": now - 90_000}),
        "good in an hour": token(secret, {**good, "nbf": now + 3600}),
        "good in an hour, as a float": token(secret, {**good, "nbf": now + 3600.5}),
        "nbf 1e300": token(secret, {**good, "nbf": 1e300}),
        "nbf in milliseconds": token(secret, {**good, "nbf": now * 1000}),
        "issued in an hour": token(secret, {**REQUIRED, "iat": now + 3600}),
        "issued in milliseconds": token(secret, {**REQUIRED, "iat": now * 1000}),
        "good after it expires": token(secret, {**good, "nbf": now + 7200, "exp": now + 3600}),
    }
    return found


def _no_objects(secret: bytes) -> dict[str, bytes]:
    texts: tuple[bytes, ...] = (
        b"[]",
        b'[{"alg":"HS256"}]',
        b'"HS256"',
        b"null",
        b"true",
        b"1",
        b"{",
        b"}",
        b'{"a"}',
        b"{'a':1}",
    )
    texts += (b'{"a":1,}', b'{"a":1}{"a":1}', b"{a:1}", b"alg: HS256", b" ", b"\n", b"\0", b"<x/>", b"\x80\x04N.")
    found = {f"header {text.decode('latin-1')!r}": token(secret, header=text) for text in texts}
    found |= {f"payload {text.decode('latin-1')!r}": token(secret, text) for text in texts}
    inner = token(secret)
    found["payload is a token"] = token(secret, inner, {"alg": "HS256", "cty": "JWT"})
    found["payload is a token in quotes"] = token(secret, b'"' + inner + b'"', {"alg": "HS256", "cty": "JWT"})
    return found


def _sizes(secret: bytes) -> dict[str, bytes]:
    found = {}
    for name, size in (("4 KiB and a little", 4097), ("8 KiB", 2**13), ("64 KiB", 2**16), ("1 MB", 10**6)):
        found[f"payload of {name}"] = token(secret, {**REQUIRED, "pad": "x" * (size * 3 // 4)})
        found[f"header of {name}"] = token(secret, header={"alg": "HS256", "pad": "x" * (size * 3 // 4)})
        found[f"signature of {name}"] = token(secret).rpartition(b".")[0] + b"." + b"A" * size
        found[f"one letter, {name}"] = b"A" * size
    return found


def _other_things(secret: bytes) -> dict[str, bytes]:
    header, payload, signature = token(secret).decode().split(".")
    flat = {"protected": header, "payload": payload, "signature": signature}
    return {
        "flattened JSON": json.dumps(flat).encode(),
        "general JSON": json.dumps({"payload": payload, "signatures": [flat]}).encode(),
        "the JSON of the payload": json.dumps(REQUIRED).encode(),
        "the secret": secret,
        "the secret in base64": b64(secret),
        "PASETO": b"v4.local." + b64(secret * 2),
        "null": b"null",
        "undefined": b"undefined",
        "API key": b"sk_live_0123456789abcdef",
        "Basic": b"Basic " + b64(b"acme:secret"),
        "a path": b"../../etc/passwd",
        "markup": b"<script>alert(1)</script>",
        "format": b"%s%n{0}${jndi:ldap://127.0.0.1:9/a}",
        "SQL": b"' OR '1'='1",
        "every byte": bytes(range(256)),
        "high bytes": b"\xff" * 100,
    }
