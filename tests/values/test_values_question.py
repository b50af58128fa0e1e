"""The query string of a custom value request."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.values.question import MAX_KEY, MAX_NAME, MAX_PARAMS, MAX_QUERY, Malformed, Question, parse_query


def test_the_founding_example_is_read() -> None:
    """The founding document's own request names two fields, a customer and an address."""
    asked = parse_query("acme", b"customerUID=123456&outboundChannelAddress=44777777777&param1=balance&param2=ID")
    assert asked == Question("acme", "123456", "44777777777", ("balance", "ID"))


@pytest.mark.parametrize(
    "query",
    [
        b"param1=a&param2=b&param10=c",
        b"param10=c&param2=b&param1=a",
        b"param1=a&param5=b&param6=&param900=c",
        b"PARAM1=a&Param2=b&pArAm3=c",
        b"param1=a&param1=b&param2=c",
        b"param01=a&param2=b&param002=c",
        b"param1=a&param2=b&param3=a&param4=c&param5=b",
        b"%70aram1=a&param%32=b&param3=c",
        b"param=a&param2=b&param3=c",
        b"&&param1=a&&param2=b&param3=c&x=y&paramx=z&param3x=z&",
    ],
)
def test_params_are_taken_in_the_order_of_their_numbers(query: bytes) -> None:
    """Gaps, repeated numbers and names, upper case and unknown keys are tolerated; a field is asked once."""
    assert parse_query("acme", query).fields == ("a", "b", "c")


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b"a%20b", "a b"),
        (b"a+b", "a b"),
        ("größe".encode(), "größe"),
        (b"gr%C3%B6", "grö"),
        (b"a=b", "a=b"),
        (b"%", "%"),
    ],
)
def test_field_names_are_free_text(raw: bytes, name: str) -> None:
    """A field is called whatever Webio's users call it."""
    assert parse_query("acme", b"param1=" + raw).fields == (name,)


@pytest.mark.parametrize(
    "spelling", [b"", b"&customerUID=", b"&customerUID=null", b"&customerUID=NULL", b"&customerUID=%20"]
)
def test_no_customer_uid_is_spelled_in_many_ways(spelling: bytes) -> None:
    """Absent, empty and null are all none; the same goes for the address."""
    asked = parse_query("acme", b"param1=a" + spelling + spelling.replace(b"customerUID", b"outboundChannelAddress"))
    assert asked == Question("acme", None, None, ("a",))


def test_a_plus_that_was_not_escaped_is_still_a_plus() -> None:
    """In a query `+` means a space, but no phone number begins with one."""
    assert parse_query("acme", b"outboundChannelAddress=+44777&param1=a").address == "+44777"
    assert parse_query("acme", b"outboundChannelAddress=%2B44777&param1=a").address == "+44777"


def test_the_same_customer_twice_is_one_customer() -> None:
    """A repeated key with the same value, or with none, says nothing new."""
    query = b"customerUID=1&customeruid=1&customerUID=&customerUID=null&param1=a"
    assert parse_query("acme", query).customer_uid == "1"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (b"customerUID=1&customerUID=2&param1=a", "more than one customerUID"),
        (b"outboundChannelAddress=1&OUTBOUNDchannelAddress=2", "more than one outboundChannelAddress"),
        (b"customerUID=" + b"1" * (MAX_KEY + 1), f"customerUID is longer than {MAX_KEY} characters"),
        (b"customerUID=%FF", "customerUID is not UTF-8"),
        (b"customerUID=%00", "customerUID contains a control character"),
        (b"outboundChannelAddress=1%0A2", "outboundChannelAddress contains a control character"),
        (b"param1=%FF", "a param is not UTF-8"),
        (b"param1=" + b"x" * (MAX_NAME + 1), f"a param is longer than {MAX_NAME} characters"),
        (b"&".join(b"param%d=x%d" % (n, n) for n in range(MAX_PARAMS + 1)), f"more than {MAX_PARAMS} params"),
        (b"&".join(b"param1=x" for _ in range(MAX_PARAMS + 1)), f"more than {MAX_PARAMS} params"),
        (b"x" * (MAX_QUERY + 1), f"the query is longer than {MAX_QUERY} bytes"),
    ],
)
def test_what_says_nothing_sure_is_malformed(query: bytes, message: str) -> None:
    """The sentence names the fault and holds nothing of the query."""
    with pytest.raises(Malformed) as raised:
        parse_query("acme", query)
    assert str(raised.value) == message


@given(st.binary(max_size=300) | st.text(alphabet="param0123=&%+customerUID", max_size=80).map(str.encode))
def test_any_bytes_are_read_or_malformed(query: bytes) -> None:
    """Whatever the query holds, nothing else comes out, and the bounds hold."""
    try:
        asked = parse_query("acme", query)
    except Malformed:
        return
    assert len(asked.fields) == len(set(asked.fields)) <= MAX_PARAMS
    assert all(0 < len(name) <= MAX_NAME for name in asked.fields)
