"""The settings of the plugins that send to a broker: what is refused, and with which sentence."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from brokers_kit import SECRET_WORD
from gateway_brokers import Template
from gateway_nats.connection import _covers

from gateway.config.convert import ConfigError
from gateway.testing import make_event, running_gateway


@pytest.mark.parametrize(
    ("plugin", "table", "sentence"),
    [
        ("redis", f'url = "redis://u:{SECRET_WORD}@h/0"', "redis.url: a password must not be in the"),
        ("redis", 'url = "http://h"', 'redis.url: expected a URL such as "redis://gateway@redis.internal:6379/0"'),
        ("redis", 'url = "redis://h/cache"', "redis.url: expected the number of a database after the server"),
        ("redis", 'url = "redis://h"\nstream = "a b"', 'redis.stream: expected a text such as "webio.{organisation}"'),
        ("redis", 'url = "redis://h"\nstream = "{customer}"', "redis.stream: {customer} is not known"),
        ("redis", 'url = "redis://h"\ntls = { key = "k" }', "redis.tls.key: needs a certificate"),
        ("redis", 'url = "redis://h"\nconfirm_timeout = "0s"', "redis.confirm_timeout: expected a duration longer"),
        ("redis", f'url = "redis://h"\npassword = "{SECRET_WORD}"', "redis.password: a secret must not be in the"),
        ("nats", "servers = []", 'nats.servers: expected at least one, such as "nats://nats.internal:4222"'),
        ("nats", f'servers = ["nats://u:{SECRET_WORD}@h"]', "nats.servers[0]: a password must not be in the"),
        ("nats", 'servers = ["nats://h"]\nsubject = "webio.>"', "nats.subject: expected a text such as"),
        ("nats", 'servers = ["nats://h"]\nstream = "A.B"', "nats.stream: expected"),
        ("amqp", f'url = "amqp://h/?password={SECRET_WORD}"', "amqp.url: a password must not be in the config file"),
        ("mqtt", 'host = "h"\ntopic = "webio/#"', 'mqtt.topic: expected a text such as "webio/{organisation}/{hook}"'),
        ("mqtt", 'host = "h"\npassword = { env = "HOME" }', "mqtt.password: needs a username"),
        ("kafka", 'servers = ["h"]', "kafka.servers[0]: expected"),
        ("kafka", 'servers = ["h:1"]\ntopic = "webio/{hook}"', "kafka.topic: expected a text such as"),
        ("kafka", 'servers = ["h:1"]\nusername = "u"', "kafka.username: needs a password"),
    ],
)  # fmt: skip
async def test_a_fault_has_its_place_and_no_secret(plugin: str, table: str, sentence: str) -> None:
    """As `gateway check` reports it."""
    with pytest.raises(ConfigError) as refused:
        async with running_gateway(f"[plugins.{plugin}]\n{table}\n"):
            pass
    assert f"plugins.{sentence}" in str(refused.value)
    assert SECRET_WORD not in str(refused.value)


async def test_a_url_with_its_password_may_be_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole of it, in the environment or a file; it is shown nowhere."""
    from gateway_redis.plugin import RedisUrl

    monkeypatch.setenv("REDIS_URL", f"rediss://u:{SECRET_WORD}@redis.internal/3")
    url = RedisUrl.from_config({"env": "REDIS_URL"}, tmp_path)
    assert (url.scheme, url.server, url.username, url.password, url.database) == (
        "rediss", "redis.internal:6379", "u", SECRET_WORD, 3,
    )  # fmt: skip
    assert SECRET_WORD not in repr(url)
    monkeypatch.setenv("REDIS_URL", f"redis//{SECRET_WORD}")
    with pytest.raises(ValueError, match=r"^expected a URL in environment variable REDIS_URL such as") as refused:
        RedisUrl.from_config({"env": "REDIS_URL"}, tmp_path)
    assert SECRET_WORD not in str(refused.value)


def test_a_name_is_one_word_of_a_subject() -> None:
    """Whatever its broker separates words with; the rest of the text stays."""
    template = Template("a/b.{organisation}.{hook}")
    event = make_event("payment")
    assert template.of(event) == "a/b.acme.payment"
    assert template.of(msgspec.structs.replace(event, organisation="a.b/c>*#+ d", hook="x")) == "a/b.a_b_c_____d.x"


@pytest.mark.parametrize(
    ("subject", "covers"),
    [
        ("webio.>", True),
        ("webio.*.*", True),
        (">", True),
        ("webio.acme.*", False),
        ("webio.*", False),
        ("other.>", False),
    ],
)
def test_a_stream_takes_the_subjects_of_all_events_or_is_named(subject: str, covers: bool) -> None:
    """`gateway check` compares them."""
    assert _covers(subject, "webio.*.*") is covers
