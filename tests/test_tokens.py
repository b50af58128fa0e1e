"""`x-webio-token`: whose it is, and every way in which it is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from tokens_corpus import REQUIRED, b64, bad_claims, bad_tokens, sign, token

from gateway.config.field_types import Duration, Secret
from gateway.config.tables import OrganisationSettings
from gateway.http.tokens import MAX_BYTES, Accepted, TokenChecker, TokenRefused, fingerprint, mint

SECRET = b"the first secret of acme, 48 bytes, random enough"
OLD = b"the secret before it, which is good for a while.."
OTHER = b"the secret of another organisation, long enough.."
NOW = 1_800_000_000  # 2027-01-15T08:00:00Z


class Clock:
    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def organisation(*secrets: bytes, **fields: Any) -> OrganisationSettings:
    return OrganisationSettings(secrets=tuple(Secret(s, "a test") for s in secrets or (SECRET,)), **fields)


def checker(
    clock: Callable[[], float] | None = None, cache_size: int = 1024, **organisations: OrganisationSettings
) -> TokenChecker:
    return TokenChecker(organisations or {"acme": organisation()}, clock=clock or Clock(), cache_size=cache_size)


def headers(*tokens: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"gateway"), *((b"x-webio-token", value) for value in tokens), (b"content-length", b"2")]


def refused(call: Callable[..., object], *args: object) -> TokenRefused:
    with pytest.raises(TokenRefused) as caught:
        call(*args)
    return caught.value


def refusal(
    token: bytes, clock: Callable[[], float] | None = None, **organisations: OrganisationSettings
) -> tuple[str, str]:
    found = refused(checker(clock, 1024, **organisations).verify, token)
    return found.code, found.reason


def test_the_secret_that_verifies_decides_the_organisation() -> None:
    """Each organisation's tokens are its own, wherever it stands in the config."""
    both = checker(acme=organisation(), globex=organisation(OTHER))
    assert both.check(headers(token(SECRET))) == "acme"
    assert both.check(headers(token(OTHER))) == "globex"
    assert both.verify(token(OTHER, {"a": 1})) == Accepted("globex", {"a": 1})


def test_every_secret_of_an_organisation_is_good() -> None:
    """Rotation without a gap: tokens of the old and of the new secret are accepted side by side."""
    rotating = checker(acme=organisation(SECRET, OLD))
    assert rotating.check(headers(token(SECRET))) == "acme"
    assert rotating.check(headers(token(OLD))) == "acme"


def test_a_secret_taken_away_ends_its_tokens() -> None:
    """A token of a secret that the config no longer names is refused."""
    assert refusal(token(OLD)) == (
        "signature",
        "no secret verifies its signature (tried: 1 secret of 1 organisation)",
    )


def test_the_refusal_says_how_many_secrets_were_tried() -> None:
    """Only those of organisations that allow the token's algorithm."""
    tokens = token(b"none of them, and long enough for HS256")
    organisations = {
        "acme": organisation(SECRET, OLD),
        "globex": organisation(OTHER),
        "initech": organisation(OTHER * 2, algorithms=("HS512",)),
    }
    assert refusal(tokens, None, **organisations)[1] == (
        "no secret verifies its signature (tried: 3 secrets of 2 organisations)"
    )


@pytest.mark.parametrize(("algorithm", "digest"), [("HS256", "sha256"), ("HS384", "sha384"), ("HS512", "sha512")])
def test_each_hmac_algorithm_is_good_where_it_is_configured(algorithm: str, digest: str) -> None:
    """And only there."""
    secret = SECRET * 2
    well_signed = token(secret, header={"alg": algorithm}, digest=digest)
    settings = organisation(secret, algorithms=(algorithm,))
    assert checker(acme=settings).verify(well_signed).organisation == "acme"
    others = tuple(a for a in ("HS256", "HS384", "HS512") if a != algorithm)
    assert refusal(well_signed, acme=organisation(secret, algorithms=others)) == (
        "algorithm",
        f"its algorithm {algorithm} is not among {', '.join(others)}",
    )


def test_an_algorithm_is_allowed_per_organisation() -> None:
    """That another organisation allows HS512 does not make it good for this one's secret."""
    secret = SECRET * 2
    signed = token(secret, header={"alg": "HS512"}, digest="sha512")
    organisations = {"acme": organisation(secret), "globex": organisation(OTHER * 2, algorithms=("HS512",))}
    assert refusal(signed, None, **organisations)[0] == "signature"


def test_a_secret_shorter_than_its_algorithm_needs_verifies_nothing() -> None:
    """Config refuses it at start; were it here nevertheless, PyJWT's own length check stands, without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert refusal(token(b"short"), acme=organisation(b"short"))[0] == "signature"


GOOD: dict[str, dict[str, Any]] = {
    "nothing but itself": {},
    "an audience": {"aud": "someone else"},
    "audiences": {"aud": ["a", "b"]},
    "an audience that is none": {"aud": 5},
    "a subject that is a number": {"sub": 12345},
    "a subject that is null": {"sub": None},
    "an issuer": {"iss": "https://webio.com"},
    "an issuer that is a list": {"iss": ["a"]},
    "an identifier that is a number": {"jti": 7},
    "times": {"iat": NOW - 10, "nbf": NOW - 10, "exp": NOW + 10},
    "times with fractions": {"iat": NOW - 10.5, "nbf": NOW - 10.25, "exp": NOW + 10.125},
    "exp in the far future": {"exp": 10**17},
    "iat and nbf 0": {"iat": 0, "nbf": 0},
    "iat before 1970": {"iat": -1},
    "any unicode": {"name": "Ó Briain 😀", "🔑": "ключ"},
    "nested claims": {"a": {"b": [{"c": [1, 2, {"d": None}]}]}},
    "big and exact numbers": {"n": 10**30, "f": 0.1},
    "names that mean something in a header": {"alg": "none", "kid": 5, "crit": ["exp"]},
}


@pytest.mark.parametrize("claims", GOOD.values(), ids=GOOD.keys())
def test_what_is_never_a_reason_by_itself(claims: dict[str, Any]) -> None:
    """aud, sub, iss and claims that are not configured do not matter; times in range are accepted."""
    assert checker().verify(token(SECRET, claims)) == Accepted("acme", claims)


HEADERS: dict[str, dict[str, Any]] = {
    "alg only": {"alg": "HS256"},
    "typ in lower case": {"alg": "HS256", "typ": "jwt"},
    "another typ": {"alg": "HS256", "typ": "at+jwt"},
    "a kid": {"alg": "HS256", "kid": "2026-01"},
    "a cty": {"alg": "HS256", "cty": "json"},
    "anything else": {"alg": "HS256", "org": 5, "n": [1, {"a": None}]},
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS.keys())
def test_header_parameters_that_change_nothing_are_let_be(header: dict[str, Any]) -> None:
    """Webio does not document its headers."""
    assert checker().verify(token(SECRET, header=header)).organisation == "acme"


@given(
    claims=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(lambda k: k not in ("exp", "nbf", "iat")),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-(2**60), 2**60)
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
            max_leaves=6,
        ),
        max_size=5,
    )
)
@settings(max_examples=100)
def test_what_is_accepted_is_read_as_pyjwt_reads_it(claims: dict[str, Any]) -> None:
    """Both as minted here and as PyJWT makes it."""
    options: Any = {"verify_aud": False, "verify_sub": False, "verify_jti": False}
    minted = mint(organisation(), claims=claims, now=NOW)
    options["verify_iat"] = False
    accepted = checker().verify(minted.encode()).claims
    assert accepted == jwt.decode(minted, SECRET, ["HS256"], options) == {"iat": NOW, **claims}
    assert checker().verify(jwt.api_jws.encode(json.dumps(claims).encode(), SECRET).encode()).claims == claims


def test_the_corpus_is_large() -> None:
    """At least 120 bad tokens, no two alike."""
    values = [value for _, value in bad_tokens(SECRET) + bad_claims(SECRET)]
    assert len(values) > 350
    assert len(set(values)) > len(values) - 5


@pytest.mark.parametrize("required", [{}, REQUIRED], ids=["no claims required", "claims required"])
def test_every_bad_token_is_refused_and_quickly(required: dict[str, Any]) -> None:
    """With TokenRefused and nothing else, under 50 ms each, by check and verify alike, with the token's fingerprint."""
    checks = TokenChecker({"acme": organisation(claims=required), "globex": organisation(OTHER, claims=required)})
    assert checks.check(headers(token(SECRET))) == "acme"
    for name, bad in bad_tokens(SECRET):
        began = time.perf_counter()
        found = refused(checks.verify, bad)
        took = time.perf_counter() - began
        if took > 0.05:  # perhaps the machine was busy
            began = time.perf_counter()
            refused(checks.verify, bad)
            took = time.perf_counter() - began
        assert took < 0.05, name
        assert found.fingerprint == fingerprint(bad), name
        assert refused(checks.check, headers(bad)).reason == found.reason, name


def test_claims_must_be_there_with_exactly_this_value() -> None:
    """Case, type and place count; nothing of what was found is told."""
    strict = checker(acme=organisation(claims=REQUIRED))
    assert strict.verify(token(SECRET, {**REQUIRED, "more": 1})).organisation == "acme"
    for name, bad in bad_claims(SECRET):
        found = refused(strict.verify, bad)
        assert found.code == "claims", name
        assert found.reason in {
            "it has no claim 'organisation', which acme requires",
            "its claim 'organisation' does not have the value that acme requires",
            "it has no claim 'tenant', which acme requires",
            "its claim 'tenant' does not have the value that acme requires",
        }, name


@pytest.mark.parametrize(
    ("required", "good", "bad"),
    [
        (1, [1], [True, 1.0, "1", [1], None]),
        (True, [True], [1, 1.0, "true", "True", [True]]),
        (False, [False], [0, 0.0, None, "", [], "false"]),
        (1.5, [1.5], ["1.5", 1, [1.5]]),
        ("a", ["a"], ["A", "a ", ["a"], {"a": 1}]),
        ("", [""], [None, False, 0, []]),
        ([1, "a"], [[1, "a"]], [["a", 1], [1], [1, "a", 2], [True, "a"], "1a", {"0": 1}]),
        ({"a": {"b": 1}}, [{"a": {"b": 1}}], [{"a": {"b": True}}, {"a": {}}, {}, {"a": {"b": 1}, "c": 1}, []]),
        ([], [[]], [{}, None, "", False, [[]]]),
    ],
)
def test_the_type_of_a_claim_counts(required: Any, good: list[Any], bad: list[Any]) -> None:
    """True is not 1, and 1 is not 1.0."""
    strict = checker(acme=organisation(claims={"c": required}))
    for value in good:
        assert strict.verify(token(SECRET, {"c": value})).organisation == "acme"
    for value in bad:
        assert refused(strict.verify, token(SECRET, {"c": value})).code == "claims"


def test_organisations_with_one_secret_are_told_apart_by_their_claims() -> None:
    """The first one whose required claims the token has; refused where it has the claims of none."""
    shared = checker(acme=organisation(claims={"org": "acme"}), globex=organisation(claims={"org": "globex"}))
    assert shared.check(headers(token(SECRET, {"org": "globex"}))) == "globex"
    assert shared.check(headers(token(SECRET, {"org": "acme"}))) == "acme"
    found = refused(shared.verify, token(SECRET, {"org": "initech"}))
    assert (found.code, found.reason) == (
        "claims",
        "its claim 'org' does not have the value that acme requires; "
        "its claim 'org' does not have the value that globex requires",
    )


def test_a_request_without_a_token_is_refused() -> None:
    """There is nothing to fingerprint then."""
    found = refused(checker().check, [(b"host", b"gateway"), (b"authorization", token(SECRET))])
    assert (found.code, found.reason, found.fingerprint) == (
        "missing",
        "the request has no x-webio-token header",
        None,
    )
    assert refused(checker().check, []).code == "missing"


def test_two_tokens_are_refused_even_when_both_are_good() -> None:
    """Whatever stands in front of the gateway may have read the other one."""
    good = token(SECRET)
    checks = checker()
    assert checks.check(headers(good)) == "acme"
    found = refused(checks.check, headers(good, good))
    assert (found.code, found.reason, found.fingerprint) == (
        "repeated",
        "the request has more than one x-webio-token header",
        None,
    )
    assert refused(checks.check, headers(good, b"")).code == "repeated"


def test_headers_may_come_from_any_iterable() -> None:
    """Also from one that can be walked once only."""
    assert checker().check(iter(headers(token(SECRET)))) == "acme"


LONG = {
    "deep": "its payload is nested deeper than 16 levels",
    "crit": "its header has 'crit', which is not supported",
    "kid": "its header has a 'kid' or 'typ' that is not a string",
    "exp": "its claim 'exp' is not a number of seconds since 1970",
}
REASONS: list[tuple[str, bytes, str, str]] = [
    ("too long", b"a" * 4097, "malformed", "it is longer than 4096 bytes"),
    ("a space", b"Bearer x", "malformed", "it contains characters other than A-Z a-z 0-9 - _ ."),
    ("empty part", b"a..b", "malformed", "it does not have three segments separated by dots"),
    ("two parts", b"a.b", "malformed", "it does not have three segments separated by dots"),
    ("impossible length", b"abcde.e30.e30", "malformed", "a segment is not base64url"),
    ("not canonical", b"e31.e30.e30", "malformed", "a segment is not in canonical base64url"),
    ("no JSON", sign(SECRET, b64(b"{"), b64(b"{}")), "malformed", "its header is not JSON"),
    ("a list", token(SECRET, b"[]"), "malformed", "its payload is not a JSON object"),
    ("key twice", token(SECRET, b'{"a":1,"a":1}'), "malformed", "its payload has the same key twice"),
    ("deep", token(SECRET, b'{"a":' + b"[" * 16 + b"]" * 16 + b"}"), "malformed", LONG["deep"]),
    ("crit", token(SECRET, header={"alg": "HS256", "crit": ["exp"]}), "malformed", LONG["crit"]),
    ("odd kid", token(SECRET, header={"alg": "HS256", "kid": 1}), "malformed", LONG["kid"]),
    ("no alg", token(SECRET, header={}), "algorithm", "its header names no algorithm"),
    ("none", token(SECRET, header={"alg": "none"}), "algorithm", "its algorithm none is not among HS256"),
    ("unheard of", token(SECRET, header={"alg": "canary"}), "algorithm", "its algorithm is not among HS256"),
    ("exp text", token(SECRET, {"exp": "1"}), "malformed", LONG["exp"]),
    ("expired", token(SECRET, {"exp": NOW - 60}), "expired", "expired at 2027-01-15T07:59:00Z"),
    ("not yet", token(SECRET, {"nbf": NOW + 61}), "early", "not valid before 2027-01-15T08:01:01Z"),
    ("future", token(SECRET, {"iat": NOW + 61}), "early", "not valid before 2027-01-15T08:01:01Z"),
    ("far", token(SECRET, {"nbf": 1e300}), "early", "not valid before a time outside the years 1 to 9999"),
]  # fmt: skip


@pytest.mark.parametrize(("bad", "code", "reason"), [r[1:] for r in REASONS], ids=[r[0] for r in REASONS])
def test_the_reason_helps_the_operator(bad: bytes, code: str, reason: str) -> None:
    """One sentence each."""
    assert refusal(bad) == (code, reason)


def test_no_reason_holds_anything_of_the_token() -> None:
    """Wherever a canary stands: in the header, the payload, a claim's value or beside it, decoded or not."""
    canary = "cAnArY"
    bad = [
        token(SECRET, header={"alg": canary}),
        token(SECRET, header={"alg": "HS256", "kid": [canary]}),
        token(SECRET, header={"alg": "HS256", "crit": [canary]}),
        token(SECRET, header={"alg": "HS256", canary: canary, "b64": canary}),
        token(SECRET, {canary: canary, "exp": canary}),
        token(SECRET, {"org": canary}),
        token(SECRET, f'{{"{canary}":1,"{canary}":1}}'.encode()),
        token(SECRET, canary.encode()),
        token(OTHER, {canary: canary}),
        canary.encode() + b" " + canary.encode(),
        b64(canary.encode()) + b".e30.e30",
    ]
    checks = checker(acme=organisation(claims={"org": "acme"}))
    for value in bad:
        found = refused(checks.verify, value)
        shown = f"{found} {found.reason} {found.fingerprint} {found!r} {found.__cause__} {found.code}"
        assert canary not in shown
        assert not any(segment.decode() in shown for segment in value.split(b".") if len(segment) > 6)


def test_a_fingerprint_tells_tokens_apart_and_nothing_else() -> None:
    """Twelve hex digits, the same each time."""
    assert fingerprint(b"abc") == "ba7816bf8f01" == fingerprint(b"abc")
    assert fingerprint(b"abd") != fingerprint(b"abc")


def test_a_token_of_exactly_the_largest_size_is_good() -> None:
    """And one byte more is not; both well signed."""

    def of_size(size: int) -> bytes:
        for pad in range(3100):
            made = token(SECRET, {"p": "x" * pad})
            if len(made) >= size:
                return made
        raise AssertionError

    largest = of_size(MAX_BYTES)
    assert len(largest) == MAX_BYTES
    assert checker().verify(largest).organisation == "acme"
    assert refusal(of_size(MAX_BYTES + 1)) == ("malformed", "it is longer than 4096 bytes")


def test_times_have_the_organisations_leeway() -> None:
    """Good until exp + leeway (exclusive) and from nbf - leeway and iat - leeway (inclusive)."""
    clock = Clock()
    strict = checker(clock, acme=organisation(leeway=Duration(30)))
    times = token(SECRET, {"iat": NOW, "nbf": NOW, "exp": NOW + 100})
    for now, good in ((-30.5, False), (-30, True), (0, True), (129.5, True), (130, False)):
        clock.now = NOW + now
        if good:
            assert strict.verify(times).organisation == "acme"
        else:
            assert refused(strict.verify, times).code in ("early", "expired")


@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_without_leeway_the_second_counts(claim: str) -> None:
    """leeway = "0s" is possible."""
    none = organisation(leeway=Duration(0))
    assert checker(acme=none).verify(token(SECRET, {claim: NOW})).organisation == "acme"
    assert refusal(token(SECRET, {claim: NOW + 1}), acme=none)[0] == "early"
    assert refusal(token(SECRET, {"exp": NOW}), acme=none)[0] == "expired"


def test_each_organisation_has_its_own_leeway() -> None:
    """A token late for one organisation may be in time for another."""
    both = checker(acme=organisation(leeway=Duration(10)), globex=organisation(OTHER, leeway=Duration(1000)))
    late = {"exp": NOW - 500}
    assert both.check(headers(token(OTHER, late))) == "globex"
    assert refused(both.check, headers(token(SECRET, late))).code == "expired"


def test_tokens_from_before_a_regeneration_are_refused() -> None:
    """`issued_after` counts to the second, without leeway."""
    regenerated = organisation(issued_after=datetime.fromtimestamp(NOW - 100, UTC))
    assert checker(acme=regenerated).verify(token(SECRET, {"iat": NOW - 100})).organisation == "acme"
    assert refusal(token(SECRET, {"iat": NOW - 101}), acme=regenerated) == (
        "issued",
        "issued at 2027-01-15T07:58:19Z, before issued_after (2027-01-15T07:58:20Z)",
    )


def test_with_issued_after_a_token_must_say_when_it_was_issued() -> None:
    """nbf and exp do not stand in for iat."""
    regenerated = organisation(issued_after=datetime.fromtimestamp(NOW - 100, UTC))
    assert refusal(token(SECRET, {"nbf": NOW - 50, "exp": NOW + 50}), acme=regenerated) == (
        "issued",
        "it has no claim 'iat', which issued_after requires",
    )


def test_a_cached_token_is_refused_once_it_has_expired() -> None:
    """The cache never outlives exp, and time going back makes it good again: nothing was remembered as bad."""
    clock = Clock()
    checks = checker(clock)
    expiring = headers(token(SECRET, {"exp": NOW + 100}))
    assert checks.cached(expiring) is None
    assert checks.check(expiring) == "acme"
    clock.now = NOW + 159
    assert checks.check(expiring) == "acme"
    assert checks.cached(expiring) == "acme"
    assert checks.cached(expiring * 2) is None
    clock.now = NOW + 160
    assert checks.cached(expiring) is None
    assert refused(checks.check, expiring).reason == "expired at 2027-01-15T08:01:40Z"
    clock.now = NOW
    assert checks.check(expiring) == "acme"


@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_a_cached_token_is_refused_when_the_clock_goes_back_before_it(claim: str) -> None:
    """All times are looked at on every use."""
    clock = Clock()
    checks = checker(clock)
    assert checks.check(headers(token(SECRET, {claim: NOW}))) == "acme"
    clock.now = NOW - 61
    assert checks.cached(headers(token(SECRET, {claim: NOW}))) is None
    assert refused(checks.check, headers(token(SECRET, {claim: NOW}))).code == "early"


class CountingChecker(TokenChecker):
    """Counts how often a token is verified from the beginning."""

    verified = 0

    def _verify(self, token: bytes) -> tuple[Accepted, bytes, float, float]:
        self.verified += 1
        return super()._verify(token)


def test_a_good_token_is_verified_once() -> None:
    """And found in the cache from then on, as long as its bytes are the same."""
    checks = CountingChecker({"acme": organisation()}, clock=Clock())
    for _ in range(10):
        assert checks.check(headers(token(SECRET))) == "acme"
    assert checks.verified == 1
    assert checks.check(headers(token(SECRET, {"jti": "another"}))) == "acme"
    assert checks.verified == 2


def test_bad_tokens_are_never_cached() -> None:
    """Neither as bad ones, nor in the place of good ones."""
    checks = CountingChecker({"acme": organisation()}, clock=Clock(), cache_size=2)
    checks.check(headers(token(SECRET)))
    for number in range(100):
        refused(checks.check, headers(token(OTHER, {"n": number})))
        refused(checks.check, headers(token(OTHER)))
    assert checks.verified == 201
    checks.check(headers(token(SECRET)))
    assert checks.verified == 201


def test_the_cache_is_bounded_and_forgets_what_was_not_used_longest() -> None:
    """Of a cache for two, the token that came in between is verified anew."""
    checks = CountingChecker({"acme": organisation()}, clock=Clock(), cache_size=2)
    one, two, three = (headers(token(SECRET, {"n": n})) for n in (1, 2, 3))
    for request in (one, two, one, three):
        checks.check(request)
    assert checks.verified == 3
    checks.check(one)
    checks.check(three)
    assert checks.verified == 3
    checks.check(two)
    assert checks.verified == 4


def test_the_cache_can_be_turned_off() -> None:
    """Then every request is verified."""
    checks = CountingChecker({"acme": organisation()}, clock=Clock(), cache_size=0)
    for _ in range(3):
        assert checks.check(headers(token(SECRET))) == "acme"
    assert checks.verified == 3


def test_a_cached_token_costs_a_fraction() -> None:
    """At most a fifth of verifying it (in truth about a thirtieth)."""
    checks = checker()
    request, value = headers(token(SECRET)), token(SECRET)

    def fastest(call: Callable[[], object]) -> float:
        best = 1.0
        for _ in range(20):
            began = time.perf_counter()
            for _ in range(50):
                call()
            best = min(best, time.perf_counter() - began)
        return best

    assert fastest(lambda: checks.check(request)) < fastest(lambda: checks.verify(value)) / 5


GOOD_TOKEN = token(SECRET, {"iat": NOW, "exp": NOW + 1000, "organisation": "acme"})
CHECKER = checker()


@given(place=st.integers(0, len(GOOD_TOKEN) - 1), byte=st.integers(0, 255))
@settings(max_examples=400)
def test_a_good_token_with_one_byte_changed_is_refused(place: int, byte: int) -> None:
    """Anywhere, to anything."""
    changed = GOOD_TOKEN[:place] + bytes([byte]) + GOOD_TOKEN[place + 1 :]
    assume(changed != GOOD_TOKEN)
    assert CHECKER.check(headers(GOOD_TOKEN)) == "acme"
    refused(CHECKER.check, headers(changed))


def test_every_letter_of_a_token_counts() -> None:
    """No place has two spellings: each letter in turn replaced by each other one of the alphabet."""
    assert CHECKER.verify(GOOD_TOKEN).organisation == "acme"
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for place in (
        *range(6),
        *range(len(GOOD_TOKEN) - 6, len(GOOD_TOKEN)),
        GOOD_TOKEN.index(b".") + 1,
        GOOD_TOKEN.rindex(b".") - 1,
    ):
        for letter in alphabet:
            changed = GOOD_TOKEN[:place] + bytes([letter]) + GOOD_TOKEN[place + 1 :]
            if changed != GOOD_TOKEN:
                refused(CHECKER.verify, changed)


@given(cut=st.integers(0, len(GOOD_TOKEN)), more=st.binary(max_size=20), at=st.integers(0, len(GOOD_TOKEN)))
@settings(max_examples=200)
def test_a_good_token_cut_or_added_to_is_refused(cut: int, more: bytes, at: int) -> None:
    """At any place."""
    for changed in (GOOD_TOKEN[:cut], GOOD_TOKEN[cut:], GOOD_TOKEN[:at] + more + GOOD_TOKEN[at:]):
        if changed != GOOD_TOKEN:
            refused(CHECKER.verify, changed)


@given(value=st.binary(max_size=5000) | st.text("eyJ.-_=abc{}", max_size=100).map(str.encode))
@example(b"")
@settings(max_examples=200)
def test_arbitrary_bytes_are_refused(value: bytes) -> None:
    """Never with anything but TokenRefused."""
    refused(CHECKER.verify, value)
    refused(CHECKER.check, headers(value))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)
NAMES = [
    "alg",
    "typ",
    "kid",
    "crit",
    "b64",
    "jku",
    "zip",
    "exp",
    "nbf",
    "iat",
    "aud",
    "sub",
    "iss",
    "jti",
    "organisation",
]
OBJECTS = st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), JSON, max_size=5)


@given(header=OBJECTS | JSON, payload=OBJECTS | JSON | st.binary(max_size=50), alg=st.booleans())
@settings(max_examples=200)
def test_anything_that_is_well_signed_is_accepted_or_refused(header: Any, payload: Any, alg: bool) -> None:
    """Any header and any payload, with the right signature: no other exception, also with claims and issued_after."""
    if alg and isinstance(header, dict):
        header = {**header, "alg": "HS256"}
    made = token(
        SECRET, payload if isinstance(payload, bytes) else json.dumps(payload).encode(), json.dumps(header).encode()
    )
    strict = organisation(claims=REQUIRED, issued_after=datetime(2020, 1, 1, tzinfo=UTC))
    for acme in (organisation(), strict):
        try:
            accepted = checker(acme=acme).verify(made)
        except TokenRefused as found:
            assert found.reason
        else:
            assert accepted == Accepted("acme", json.loads(payload) if isinstance(payload, bytes) else payload)


def test_no_token_makes_the_gateway_open_or_ask_anything(tmp_path: Path) -> None:
    """No file, no connection, no look-up and no warning for the whole corpus, as the interpreter itself reports."""
    script = """
import sys, warnings
sys.path.insert(0, sys.argv[1])
import encodings.utf_16, encodings.utf_32
from tokens_corpus import bad_tokens, token
from gateway.config.tables import OrganisationSettings
from gateway.config.field_types import Secret
from gateway.http.tokens import TokenChecker, TokenRefused

secret = b"a secret that is long enough for HS256.."
corpus = bad_tokens(secret)
checker = TokenChecker({"acme": OrganisationSettings(secrets=(Secret(secret, "a test"),))})
checker.verify(token(secret))
seen = []
sys.addaudithook(lambda name, _: seen.append(name) if name.split(".")[0] in WATCHED else None)
WATCHED = {"open", "socket", "subprocess", "os", "urllib", "import", "exec", "compile", "ctypes", "http"}
for name, value in corpus:
    try:
        checker.verify(value)
    except TokenRefused:
        continue
    seen.append(f"accepted: {name}")
open("/dev/null").close()
print(seen)
"""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    assert (run.stdout, run.stderr) == ("['open']\n", "")


def test_mint_makes_a_token_that_the_same_organisation_accepts() -> None:
    """Signed with the first secret and the first algorithm, with the required claims and iat."""
    settings = organisation(
        SECRET * 2,
        OLD,
        algorithms=("HS512", "HS256"),
        claims=REQUIRED,
        issued_after=datetime.fromtimestamp(NOW - 5, UTC),
    )
    minted = mint(settings, now=NOW + 0.75)
    assert jwt.get_unverified_header(minted) == {"alg": "HS512", "typ": "JWT"}
    assert checker(acme=settings).verify(minted.encode()) == Accepted("acme", {"iat": NOW, **REQUIRED})


def test_mint_takes_further_claims_and_a_life() -> None:
    """Explicit claims stand over the organisation's own, so that refusals can be tried out."""
    settings = organisation(claims=REQUIRED)
    minted = mint(settings, claims={"sub": "me", "tenant": 8}, expires_in=90.5, now=NOW).encode()
    expected = {"iat": NOW, "organisation": "acme", "tenant": 8, "sub": "me", "exp": NOW + 91}
    assert checker().verify(minted) == Accepted("acme", expected)
    assert refusal(minted, acme=settings)[0] == "claims"
    clock = Clock(NOW + 91 + 60)
    assert refusal(minted, clock)[0] == "expired"


def test_a_minted_token_is_good_now() -> None:
    """By the real clock."""
    assert TokenChecker({"acme": organisation()}).verify(mint(organisation()).encode()).organisation == "acme"


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({"when": datetime(2026, 1, 1)}, "no token can be made: Object of type datetime is not JSON serializable"),
        ({"n": float("nan")}, "no token can be made: Out of range float values are not JSON compliant"),
        ({"pad": "x" * 5000}, "no token can be made: it would have 6784 bytes; at most 4096 are accepted"),
    ],
)
def test_mint_says_why_it_cannot(claims: dict[str, Any], message: str) -> None:
    """Rather than making what would be refused."""
    with pytest.raises(ValueError, match="no token can be made") as caught:
        mint(organisation(), claims=claims, now=NOW)
    assert str(caught.value).startswith(message)


def test_mint_refuses_a_short_secret_without_a_warning() -> None:
    """PyJWT's rule, not a copy of it."""
    with pytest.raises(ValueError, match="no token can be made: The HMAC key is 5 bytes long"):
        mint(organisation(b"short"))
