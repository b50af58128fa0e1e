"""`gateway token`: makes tokens, and tells the operator why one is refused."""

from __future__ import annotations

import json
import time
from pathlib import Path

import jwt
import pytest
from click.testing import CliRunner, Result
from running import SECRET, write_config

from gateway.cli import cli


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_config(tmp_path)


def token(config: Path, *arguments: str, input: str | None = None) -> Result:
    return CliRunner().invoke(cli, ["token", *arguments, "-c", str(config)], input=input)


def two_organisations(config: Path) -> None:
    (config.parent / "beta.secret").write_text("another secret of thirty-two bytes")
    config.write_text(config.read_text() + '\n[organisations.beta]\nsecrets = [{ file = "beta.secret" }]\n')


def test_mint_prints_the_token_and_nothing_else(config: Path) -> None:
    """One line, signed with the configured secret; it carries the time it was made, and does not expire."""
    minted = token(config, "mint")

    assert minted.exit_code == 0
    assert minted.output.count("\n") == 1
    claims = jwt.decode(minted.output.strip(), SECRET, ["HS256"])
    assert list(claims) == ["iat"]
    assert abs(claims["iat"] - time.time()) < 10


def test_mint_prints_json(config: Path) -> None:
    """The same token, and whose it is."""
    document = json.loads(token(config, "mint", "--json").output)

    assert document["organisation"] == "acme"
    assert list(jwt.decode(document["token"], SECRET, ["HS256"])) == ["iat"]


def test_mint_takes_a_lifetime_and_claims(config: Path) -> None:
    """A claim is a text, or a JSON value after `:=`; a lifetime is a duration in words."""
    minted = token(config, "mint", "--expires-in", "1h", "--claim", "orgId=4711", "--claim", "roles:=[1, true]")

    claims = jwt.decode(minted.output.strip(), SECRET, ["HS256"])
    assert (claims["orgId"], claims["roles"]) == ("4711", [1, True])
    assert claims["exp"] - claims["iat"] == 3600


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--expires-in", "soon"], 'expected a duration such as "30s", "5m" or "24h", found "soon"'),
        (["--claim", "orgId"], "expected name=string or name:=json, found 'orgId'"),
        (["--claim", "n:=four"], "'four' is not JSON; write n=four for a string"),
        (["--organisation", "beta"], "unknown organisation 'beta'; known: acme"),
    ],
)
def test_mint_refuses_what_it_cannot_read(config: Path, arguments: list[str], sentence: str) -> None:
    """Wrong usage: exit 2, and what would be right."""
    result = token(config, "mint", *arguments)

    assert result.exit_code == 2
    assert sentence in result.output


def test_several_organisations_need_a_name(config: Path) -> None:
    """No secret is picked silently."""
    two_organisations(config)

    unnamed = token(config, "mint")
    named = token(config, "mint", "--organisation", "beta")

    assert unnamed.exit_code == 2
    assert "name one with --organisation: acme, beta" in unnamed.output
    assert "valid: beta\n" in token(config, "verify", named.output.strip()).output


def test_verify_reads_the_token_from_standard_input(config: Path) -> None:
    """So that it is not in the list of processes; `-` says the same aloud."""
    minted = token(config, "mint").output

    assert token(config, "verify", input=minted).output.startswith("valid: acme\n  iat: ")
    assert token(config, "verify", "-", input=minted).output.startswith("valid: acme\n")


def test_verify_takes_the_token_as_an_argument(config: Path) -> None:
    """A token that need not stay secret."""
    assert token(config, "verify", token(config, "mint").output.strip()).exit_code == 0


def test_verify_as_json_has_organisation_and_claims(config: Path) -> None:
    """`{"valid": true, "organisation": ..., "claims": {...}}`"""
    result = token(config, "verify", "--json", input=token(config, "mint", "--claim", "orgId=7").output)
    found = json.loads(result.output)

    assert {"valid", "organisation", "claims"} == found.keys()
    assert (found["valid"], found["organisation"], found["claims"]["orgId"]) == (True, "acme", "7")


def test_verify_says_why_a_token_is_refused(config: Path) -> None:
    """Exit 1, and the reason on standard error."""
    foreign = jwt.encode({"iat": 1}, "a secret of somebody else, long enough", "HS256")

    result = token(config, "verify", input=foreign)

    assert result.exit_code == 1
    assert result.stderr.startswith("refused: ")
    assert "signature" in result.stderr
    assert result.stdout == ""


def test_verify_as_json_has_the_reason(config: Path) -> None:
    """`{"valid": false, "reason": ...}`, and exit 1."""
    expired = jwt.encode({"exp": 1_000_000_000}, SECRET, "HS256")

    result = token(config, "verify", "--json", input=expired)

    assert result.exit_code == 1
    assert json.loads(result.output) == {"valid": False, "reason": "expired at 2001-09-09T01:46:40Z"}


@pytest.mark.parametrize("given", ["", "\n", "not a token", "\x00", "é.é.é"])
def test_verify_refuses_nonsense(config: Path, given: str) -> None:
    """Without a traceback."""
    result = token(config, "verify", input=given)

    assert result.exit_code == 1
    assert result.output.startswith("refused: it ")
