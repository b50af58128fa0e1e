"""From entry points to bound plugins: what loads, and which sentence says why something does not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from running import write_config, write_plugin

from gateway.config.convert import ConfigError
from gateway.config.load import load_config
from gateway.hookspecs import CONTRACT, Hooks
from gateway.plugin_host.bind import HOOK_NAMES
from gateway.plugin_host.load import Plugin, load_plugins
from gateway.plugin_host.sources import OWN_KEYS, installed

Load = Callable[..., list[Plugin]]

PLAIN = """
    from gateway import hookimpl

    class Plugin:
        @hookimpl
        def on_event(self, event): ...
"""


@pytest.fixture
def load(tmp_path: Path, site: Path) -> Load:
    """Load the plugins of a config text, with `plugins` (name to source) installed."""

    def load(text: str, **plugins: str) -> list[Plugin]:
        for name, source in plugins.items():
            write_plugin(site, name, source)
        return load_plugins(load_config(write_config(tmp_path, text)))

    return load


@pytest.fixture
def faults(load: Load) -> Callable[..., list[tuple[str, str]]]:
    """What is wrong, by path, when a config text is loaded that has to fail."""

    def faults(text: str, **plugins: str) -> list[tuple[str, str]]:
        with pytest.raises(ConfigError) as caught:
            load(text, **plugins)
        return [(problem.path, problem.message) for problem in caught.value.problems]

    return faults


# What there is


def test_an_unknown_name_lists_what_is_installed(faults: Any) -> None:
    """The bundled plugins are found the same way as all others. A name that is close to one is a misspelling of it."""
    misspelt, unknown = faults("[plugins.archiv]\n[plugins.xyz]\n", mine=PLAIN)
    assert misspelt == ("plugins.archiv", 'no plugin "archiv" is installed; did you mean "archive"?')
    path, message = unknown
    assert path == "plugins.xyz"
    sentence, _, names = message.partition("; installed: ")
    assert sentence == 'no plugin "xyz" is installed'
    assert names.split(", ") == sorted(installed())
    assert {"archive", "logging", "sql_values", "mine"} <= set(installed())


def test_two_distributions_with_one_name(faults: Any, site: Path) -> None:
    """An error that names both; neither is imported."""
    write_plugin(site, "twice", "raise AssertionError('imported')")
    other = site / "somebody_else-2.5.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: somebody-else\nVersion: 2.5\n")
    (other / "entry_points.txt").write_text("[gateway.plugins]\ntwice = plugin_twice:Plugin\n")
    [(path, message)] = faults("[plugins.twice]\n")
    assert path == "plugins.twice"
    owners = {"plugin-twice 1.0 and somebody-else 2.5", "somebody-else 2.5 and plugin-twice 1.0"}
    assert message in {f"the name 'twice' is claimed by {both}; uninstall one of them" for both in owners}


def test_a_clash_of_names_that_the_config_does_not_use_is_ignored(load: Load, site: Path) -> None:
    """Two distributions of one name that the config does not name do no harm, nor does a broken one."""
    for number in (1, 2):
        folder = site / f"clash{number}-1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: clash{number}\nVersion: 1\n")
        (folder / "entry_points.txt").write_text("[gateway.plugins]\nclash = nowhere:Plugin\nbroken = no where\n")
    assert [plugin.name for plugin in load("[plugins.mine]\n", mine=PLAIN)] == ["mine"]
    assert len(installed()["clash"]) == 2


def test_only_what_is_used_is_imported(load: Load) -> None:
    """A plugin that the config does not name, or turns off, is never imported."""
    load("[plugins.used]\n[plugins.off]\nenabled = false\n", used=PLAIN, off="import nothing_at_all", unused="1 / 0")
    assert "plugin_used" in sys.modules
    assert not {"plugin_off", "plugin_unused"} & set(sys.modules)


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("import nothing_at_all", "ModuleNotFoundError: No module named 'nothing_at_all'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def f(:\n", "SyntaxError: invalid syntax (plugin_broken.py, line 1)"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("x = 1", "AttributeError: module 'plugin_broken' has no attribute 'Plugin'"),
        ("raise RuntimeError('no license for 447700900123')", "RuntimeError: no license for …"),
    ],
)
def test_an_import_error(faults: Any, source: str, cause: str) -> None:
    """Name, distribution, version and cause."""
    assert faults("[plugins.broken]\n", broken=source) == [
        ("plugins.broken", f"plugin_broken:Plugin from plugin-broken 1.0 cannot be imported: {cause}")
    ]


def test_every_fault_is_told_at_once(faults: Any) -> None:
    """One broken plugin does not hide the next."""
    found = faults("[plugins.a]\n[plugins.b]\n[plugins.c]\nx = 1\n", a="1 / 0", c=PLAIN)
    assert [path for path, _ in found] == ["plugins.a", "plugins.b", "plugins.c.x"]


# What a plugin is


@pytest.mark.parametrize("source", ["def Plugin(config): ...", "Plugin = 5", "Plugin = object()"])
def test_a_plugin_is_a_class(faults: Any, source: str) -> None:
    """Nothing else."""
    assert faults("[plugins.odd]\n", odd=source) == [
        ("plugins.odd", "plugin_odd:Plugin from plugin-odd 1.0 is not a class")
    ]


@pytest.mark.parametrize(
    "config", ["Config = dict", "Config = {}", "class Config: ...", "import msgspec; Config = msgspec.Struct()"]
)
def test_a_config_is_a_struct(faults: Any, config: str) -> None:
    """A `Config` of any other kind is an error."""
    [(path, message)] = faults("[plugins.odd]\n", odd=f"class Plugin:\n    {config}\n")
    assert path == "plugins.odd"
    assert message == "plugin_odd:Plugin from plugin-odd 1.0: Config must be a msgspec.Struct"


RESERVED = """
    import msgspec

    class Plugin:
        class Config(msgspec.Struct, frozen=True, kw_only=True):
            timeout: float = 1.0
            begin: str = msgspec.field(default="", name="from")
            concurrency: int = 1
            url: str = ""

        def __init__(self, config): ...
"""


def test_keys_that_are_the_gateways_own(faults: Any) -> None:
    """A `Config` must not have them, whether the config sets them or not."""
    assert faults("[plugins.greedy]\n", greedy=RESERVED) == [
        (
            "plugins.greedy",
            "plugin_greedy:Plugin from plugin-greedy 1.0: Config has concurrency, from, timeout,"
            " which is the gateway's own",
        )
    ]


CONFIGURED = """
    from pathlib import Path
    import msgspec
    from gateway import Duration, Secret, Size, hookimpl

    class Plugin:
        class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
            url: str
            wait: Duration = Duration(5)
            most: Size = Size(10)
            key: Secret | None = None
            folder: Path = Path("here")

        def __init__(self, config):
            self.config = config

        @hookimpl
        def on_event(self, event): ...
"""


def test_settings_are_typed(load: Load, tmp_path: Path) -> None:
    """The plugin's own table becomes its own `Config`; the gateway's keys in it are taken out first."""
    (tmp_path / "key").write_text("a key")
    text = 'url = "x"\nwait = "2m"\nkey = { file = "key" }\ntimeout = "7s"\nmax_attempts = 3\nfrom = "start"\n'
    [plugin] = load(f"[plugins.mine]\n{text}", mine=CONFIGURED)
    config = plugin.instance.config
    assert (config.url, config.wait, config.most, config.key.value) == ("x", 120.0, 10, b"a key")
    assert config.folder == tmp_path / "here"
    delivery = plugin.delivery
    assert (delivery.timeout, delivery.max_attempts, delivery.from_start) == (7.0, 3, True)
    assert (delivery.backoff, delivery.concurrency, delivery.ordered) == (1.0, 4, True)


def test_a_misspelt_key_of_the_gateways_own_is_known(faults: Any) -> None:
    """They stand in the same table as the plugin's; a list of known keys has both."""
    assert faults('[plugins.mine]\nurl = "x"\nenabeld = false\nconcurency = 1\nq = 1\n', mine=CONFIGURED) == [
        ("plugins.mine.enabeld", 'unknown key; did you mean "enabled"?'),
        ("plugins.mine.concurency", 'unknown key; did you mean "concurrency"?'),
        ("plugins.mine.q", f"unknown key; known: url, wait, most, key, folder, {', '.join(OWN_KEYS)}"),
    ]


OWNING = """
    import msgspec
    from gateway import ExclusivePath, OrganisationName

    class Plugin:
        class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
            directory: ExclusivePath
            index: ExclusivePath | None = None
            whose: OrganisationName | None = None
            texts: dict[OrganisationName, str] = {}

        def __init__(self, config):
            self.config = config
"""


def test_what_a_plugin_has_to_itself_is_no_other_ones(faults: Any, tmp_path: Path) -> None:
    """However the two write it; each names the other."""
    (tmp_path / "link").symlink_to("kept")
    text = "[plugins.mine]\ndirectory = 'kept'\n[plugins.mine-eu]\nuse = 'mine'\ndirectory = 'other/../link'\n"
    assert faults(text, mine=OWNING) == [
        ("plugins.mine-eu.directory", "is the same as plugins.mine.directory; give each its own")
    ]
    assert faults("[plugins.mine]\ndirectory = 'kept'\nindex = 'kept'\n") == [
        ("plugins.mine.index", "is the same as plugins.mine.directory; give each its own")
    ]


def test_each_may_have_its_own(load: Load) -> None:
    """Also where one is switched off."""
    text = "[plugins.mine]\ndirectory = 'a'\n[plugins.mine-eu]\nuse = 'mine'\ndirectory = 'b'\n"
    off = "[plugins.mine-off]\nuse = 'mine'\ndirectory = 'a'\nenabled = false\n"
    assert [plugin.name for plugin in load(text + off, mine=OWNING)] == ["mine", "mine-eu"]


def test_an_organisation_that_a_plugin_names_is_one_of_the_configs(load: Load, faults: Any) -> None:
    """As a key or as a value."""
    [plugin] = load("[plugins.mine]\ndirectory = 'a'\nwhose = 'acme'\ntexts.acme = 'x'\n", mine=OWNING)
    assert (plugin.instance.config.whose, plugin.instance.config.texts) == ("acme", {"acme": "x"})
    assert faults("[plugins.mine]\ndirectory = 'a'\nwhose = 5\ntexts.acne = 'x'\ntexts.nope = 'x'\n") == [
        ("plugins.mine.whose", "expected the name of an organisation, found 5 (a number)"),
        ("plugins.mine.texts.acne", 'unknown organisation "acne"; did you mean "acme"?'),
        ("plugins.mine.texts.nope", 'unknown organisation "nope"; known: acme'),
    ]


def test_settings_that_are_wrong(faults: Any) -> None:
    """Every fault of a table, with its dotted path."""
    assert faults('[plugins.mine]\nwait = 5\nurll = "x"\ntimeout = "7s"\n', mine=CONFIGURED) == [
        ("plugins.mine.urll", 'unknown key; did you mean "url"?'),
        ("plugins.mine.url", "is missing"),
        ("plugins.mine.wait", 'expected a duration such as "30s", "5m" or "24h", found 5 (a number)'),
    ]


def test_a_plugin_without_settings(load: Load, faults: Any) -> None:
    """It may leave `Config` out, and the argument of `__init__` with it; its table then has none of its own keys."""
    source = "class Plugin:\n    def __init__(self{}): self.made = True\n"
    for name, argument in (("none", ""), ("one", ", config")):
        [plugin] = load(f"[plugins.{name}]\n", **{name: source.format(argument)})
        assert plugin.instance.made
    assert faults('[plugins.none]\nurl = "x"\n') == [("plugins.none.url", f"unknown key; known: {', '.join(OWN_KEYS)}")]


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        ("raise ValueError('the url has no host')", "ValueError: the url has no host"),
        ("raise SystemExit", "SystemExit"),
        ("raise BaseException('odd')", "BaseException: odd"),
        ("self.nothing", "AttributeError: 'Plugin' object has no attribute 'nothing'"),
    ],
)
def test_an_init_that_raises(faults: Any, body: str, cause: str) -> None:
    """One sentence, also for a `BaseException`."""
    source = f"class Plugin:\n    def __init__(self, config): {body}\n"
    assert faults("[plugins.sad]\n", sad=source) == [("plugins.sad", f"plugin_sad:Plugin from plugin-sad 1.0: {cause}")]


def test_a_long_error_is_told_whole(faults: Any) -> None:
    """Its end may be what helps."""
    source = "class Plugin:\n    def __init__(self, config): raise ValueError('long ' * 100 + 'end')\n"
    [(_, message)] = faults("[plugins.sad]\n", sad=source)
    assert message.endswith("long long end")


# The version of the contract


OTHER_CONTRACT = "it needs version {} of the plugin contract, and this gateway has {}; {}"
UPGRADE = "upgrade the gateway, or use an older version of the plugin"


@pytest.mark.parametrize(
    ("contract", "message"),
    [
        (f"({CONTRACT[0]}, {CONTRACT[1] + 1})", UPGRADE),
        (f"({CONTRACT[0] + 1}, 0)", UPGRADE),
        ("(0, 9)", "use a newer version of the plugin"),
    ],
)
def test_a_plugin_for_another_contract_is_refused(faults: Any, contract: str, message: str) -> None:
    """Before it gets what it was not made for, and whatever else is wrong with it."""
    source = f"class Plugin:\n    contract = {contract}\n    Config = dict\n    def on_new_hook(self): ...\n"
    sentence = OTHER_CONTRACT.format(contract, CONTRACT, message)
    assert faults("[plugins.newer]\n", newer=source) == [
        ("plugins.newer", f"plugin_newer:Plugin from plugin-newer 1.0: {sentence}")
    ]


@pytest.mark.parametrize("contract", ['"1.0"', "1.0", "[1, 0]", "(1,)", "(1, 0, 0)", "(True, 0)", "(1, '0')"])
def test_a_contract_is_two_numbers(faults: Any, contract: str) -> None:
    """Anything else may be a newer way to write it."""
    [(path, message)] = faults("[plugins.odd]\n", odd=f"class Plugin:\n    contract = {contract}\n")
    assert path == "plugins.odd"
    assert f"Plugin from plugin-odd 1.0: contract: expected two numbers such as {CONTRACT}, found a " in message


def test_a_plugin_for_this_contract_is_loaded(load: Load) -> None:
    """And one that names none; (1, 0) is accepted as long as the first number is 1."""
    for number, contract in enumerate(("contract = (1, 0)", f"contract = {CONTRACT}", "x = 1")):
        source = f"class Plugin:\n    {contract}\n    def on_event(self, event): ...\n"
        assert load(f"[plugins.same{number}]\n", **{f"same{number}": source})[0].takes_events


# Instances


def test_config_order_is_call_order(load: Load) -> None:
    """Not the order of installation, nor that of the alphabet."""
    names = ["m", "z", "a", "k"]
    plugins = load("".join(f"[plugins.{name}]\n" for name in names), **dict.fromkeys(sorted(names), PLAIN))
    assert [plugin.name for plugin in plugins] == names


def test_a_second_instance(load: Load) -> None:
    """`use` names the plugin; the two have a name, settings and threads of their own."""
    text = '[plugins.mine]\nurl = "one"\n[plugins.mine-eu]\nuse = "mine"\nurl = "two"\n'
    first, second = load(text, mine=CONFIGURED)
    assert [(p.name, p.plugin, p.instance.config.url) for p in (first, second)] == [
        ("mine", "mine", "one"),
        ("mine-eu", "mine", "two"),
    ]
    assert first.instance is not second.instance
    assert first.threads is not second.threads
    assert (first.distribution, first.version) == ("plugin-mine", "1.0")


def test_use_of_what_is_not_there(faults: Any) -> None:
    """The name that is looked for is that of `use`, the path that of the table."""
    [(path, message)] = faults('[plugins.mine]\nuse = "yours"\n')
    assert path == "plugins.mine"
    assert message.startswith('no plugin "yours" is installed; ')


# Hooks


NAMES_RESERVED = "; names that begin with on_ are reserved for hooks"


def one(hooks: str) -> str:
    lines = "\n".join(f"        {line}" for line in hooks.splitlines())
    return f"    import functools\n    from gateway import hookimpl\n\n    class Plugin:\n{lines}\n"


def test_every_hook_can_be_implemented(load: Load) -> None:
    """Each under its own name, with all of its arguments, marked or not, async or not."""
    import inspect

    for number, (mark, keyword) in enumerate((m, k) for m in ("@hookimpl\n", "") for k in ("def", "async def")):
        source = "".join(
            f"{mark}{keyword} {name}{inspect.signature(getattr(Hooks, name)).replace(return_annotation='')}: ...\n"
            for name in HOOK_NAMES
        )
        source = "from __future__ import annotations\nfrom gateway import hookimpl\nclass Plugin:\n" + "".join(
            f"    {line}\n" for line in source.replace(" -> ''", "").splitlines()
        )
        [plugin] = load(f"[plugins.all{number}]\n", **{f"all{number}": source})
        assert set(plugin.hooks) == set(HOOK_NAMES)
        assert {impl.is_async for impl in plugin.hooks.values()} == {keyword == "async def"}
        assert plugin.takes_events


def test_sync_and_async_are_told_apart_once(load: Load) -> None:
    """When it is bound, for each impl by itself."""
    source = "@hookimpl\nasync def on_event(self, event): ...\n@hookimpl\ndef on_payment(self, event, payload): ..."
    [plugin] = load("[plugins.both]\n", both=one(source))
    assert {name: impl.is_async for name, impl in plugin.hooks.items()} == {"on_event": True, "on_payment": False}


def test_arguments_may_be_left_out_and_reordered(load: Load) -> None:
    """Each implementation gets those it names."""
    source = one(
        "@hookimpl\ndef on_payment(self, payload): return ('payment', payload)\n"
        "@hookimpl\ndef on_set_status(self, payload, event): return (payload, event)\n"
        "@hookimpl\ndef on_event(self): return 'nothing'"
    )
    [plugin] = load("[plugins.few]\n", few=source)
    assert plugin.hooks["on_payment"].call("the event", "the payload") == ("payment", "the payload")
    assert plugin.hooks["on_set_status"].call("the event", "the payload") == ("the payload", "the event")
    assert plugin.hooks["on_event"].call("the event") == "nothing"


@pytest.mark.parametrize(
    ("hooks", "message"),
    [
        (
            "@hookimpl\ndef on_paymnt(self, event): ...",
            f'unknown hook on_paymnt; did you mean "on_payment"?{NAMES_RESERVED}',
        ),
        ("def on_paymnt(self, event): ...", f'unknown hook on_paymnt; did you mean "on_payment"?{NAMES_RESERVED}'),
        ("def on_xyz(self, event): ...", f"unknown hook on_xyz; known: {', '.join(HOOK_NAMES)}{NAMES_RESERVED}"),
        ("@hookimpl\ndef chekpoint(self): ...", 'unknown hook chekpoint; did you mean "checkpoint"?'),
        (
            "@hookimpl\ndef on_payment(self, event, payload, more): ...",
            "on_payment has no argument 'more'; arguments: event, payload",
        ),
        ("@hookimpl\ndef on_event(self, evnt): ...", "on_event has no argument 'evnt'; arguments: event"),
        ("def checkpoint(self, evnt): ...", "checkpoint has no argument 'evnt'; arguments: none"),
        (
            "@hookimpl(wrapper=True)\ndef on_event(self, event): yield",
            "on_event is a hook wrapper; wrappers are not supported",
        ),
        *(
            (
                f"@hookimpl\n{kind} on_event(self, event): yield",
                "on_event has a yield in it: calling it would do nothing",
            )
            for kind in ("def", "async def")
        ),
    ],
)
def test_a_misspelt_hook_or_argument(faults: Any, hooks: str, message: str) -> None:
    """A whole sentence that names it, instead of a plugin that does nothing in silence."""
    assert faults("[plugins.odd]\n", odd=one(hooks)) == [
        ("plugins.odd", f"plugin_odd:Plugin from plugin-odd 1.0: {message}")
    ]


def test_other_methods_are_the_plugins_own(load: Load) -> None:
    """Whatever they are called, so long as it is not `on_…`."""
    source = one(
        "def check_balance(self): ...\ndef start(self): ...\nretries = 3\n@property\ndef url(self): return 'x'"
    )
    [plugin] = load("[plugins.own]\n", own=source)
    assert plugin.hooks == {}
    assert not plugin.takes_events


async def test_inherited_hooks_count(load: Load) -> None:
    """And so do static ones and those that were wrapped."""
    source = """
        import functools
        from gateway import hookimpl

        def logged(function):
            @functools.wraps(function)
            async def inner(*args):
                return await function(*args)
            return inner

        class Base:
            @hookimpl
            def on_event(self, event):
                return "base"

            @staticmethod
            @hookimpl
            def checkpoint():
                return "static"

        class Plugin(Base):
            @hookimpl
            @logged
            async def on_payment(self, event, payload):
                return "wrapped"
    """
    [plugin] = load("[plugins.heir]\n", heir=source)
    assert plugin.hooks["on_event"].call("an event") == "base"
    assert plugin.hooks["checkpoint"].call() == "static"
    assert plugin.hooks["on_payment"].is_async
    assert await plugin.hooks["on_payment"].call("an event", "a payload") == "wrapped"


SHARED = '[journal]\nurl = "postgresql://gateway@db.internal/gateway"\n'


def test_a_plugin_that_keeps_files_on_its_host_cannot_be_divided(load: Load, faults: Any) -> None:
    """Its conversations would be on several hosts; others may have up to 64 shards."""
    [(path, message)] = faults(f'{SHARED}[plugins.archive]\ndirectory = "archive"\nshards = 2\n')
    assert path == "plugins.archive.shards"
    assert message == (
        "expected 1, found 2: the plugin keeps files in `directory`, for which a single gateway delivers to it;"
        " sql_events and s3 can be shared"
    )
    [archive, logging] = load(f'{SHARED}[plugins.archive]\ndirectory = "archive"\n[plugins.logging]\nshards = 64\n')
    assert (archive.delivery.shards, logging.delivery.shards) == (1, 64)
