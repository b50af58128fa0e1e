"""The filter options that `events`, `dead`, `replay` and `values` share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from gateway.config.tables import Config
    from gateway.journal.interface import Filter

F = TypeVar("F", bound=Callable[..., Any])
STATES = ("delivered", "waiting", "retrying", "dead", "no taker")


class _State(click.Choice[str]):
    """One of `STATES`; `no-taker` is `no taker`, too."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return super().convert(value.replace("-", " "), param, ctx)


def hook_named(spelling: str, more: tuple[str, ...] = ()) -> str:
    """The hook for a spelling such as `inbound-message`, `inboundMessage` or `Inbound messages`, or one of `more`.
    `BadParameter` where there is none."""
    from gateway.config.convert import meant
    from gateway.config.field_types import show
    from gateway.decoding import hook_names, normalise
    from gateway.events import HOOKS

    hook = spelling if spelling in more else hook_names({}).get(normalise(spelling))
    if hook is None:
        raise click.BadParameter(f"unknown hook {show(spelling)}; {meant(spelling, [*HOOKS, *more])}")
    return hook


def moment(text: str) -> datetime:
    """See `moment_of`; `BadParameter`."""
    from gateway.config.moments import moment_of

    try:
        return moment_of(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def filter_options(*, states: bool = False, plugin_required: bool = False, arguments: bool = True) -> Callable[[F], F]:
    """Adds the options, and ids as arguments. The command gets them as one `Filter`, `which`."""

    def decorate(function: F) -> F:
        @wraps(function)
        def command(**given: Any) -> Any:
            from gateway.journal.interface import Filter

            names = ("hook", "organisation", "conversation", "customer", "address", "text", "since", "until", "plugin",
                     "state")  # fmt: skip
            fields = {name: given.pop(name) for name in names if name in given}
            which = Filter(ids=given.pop("more_ids", ()) + given.pop("ids"), **fields)
            return function(which=which, **given)

        decorated: Any = command
        for option in reversed(_options(states, plugin_required)):
            decorated = option(decorated)
        if arguments:
            decorated = click.argument("more_ids", nargs=-1, metavar="[ID]...")(decorated)
        return decorated  # type: ignore[no-any-return]

    return decorate


def _options(states: bool, plugin_required: bool) -> list[Callable[[F], F]]:
    whose = "The plugin that --state is about.  [default: any plugin]" if states else "Only of this plugin."
    plugin = "The plugin that gets the events, by its name in the config." if plugin_required else whose
    options = [
        click.option("--plugin", metavar="NAME", required=plugin_required, help=plugin),
        click.option("--hook", metavar="HOOK", callback=_hook, help="Such as payment or inbound-message; or unknown."),
        click.option("--organisation", metavar="NAME", help="An organisation of the config."),
        click.option("--conversation", metavar="ID", help="Webio's conversationId."),
        click.option("--customer", metavar="UID", help="Webio's customerUID."),
        click.option("--address", metavar="A", callback=address_of, help="The customer's address, in any notation."),
        click.option(
            "--text", metavar="WORDS", callback=_words, help="Messages with all of these words; pay* begins one."
        ),
        time_options,
        click.option("--id", "ids", metavar="ID", multiple=True, help="The event with this id. Repeatable."),
    ]
    if states:
        text = "The state of the delivery. delivered: to every plugin; no taker: no enabled plugin has a hook for it."
        options.append(click.option("--state", type=_State(STATES), help=text))
    return options


def time_options(function: F) -> F:
    """Adds --since and --until."""
    until = click.option("--until", metavar="TIME", callback=_time, help="Before it. Times are in UTC without a zone.")
    text = "At or after a time: 2026-01-31T09:30, 2h, 7d, today."
    return click.option("--since", metavar="TIME", callback=_time, help=text)(until(function))


def _hook(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    return None if value is None else hook_named(value, ("unknown",))


def address_of(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    from gateway.selector import address_key

    if value is not None and not address_key(value):
        raise click.BadParameter("expected an address such as +353861234567, found an empty text")
    return value


def _words(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    from gateway.journal.contents import wanted_words

    if value is not None and not wanted_words(value):
        raise click.BadParameter("expected a word, found a text without a letter or a digit")
    return value


def _time(context: click.Context, parameter: click.Parameter, value: str | None) -> datetime | None:
    """The time; `UsageError` where nothing can be between --since and --until."""
    parsed = None if value is None else moment(value)
    others = {name: context.params.get(name) for name in ("since", "until")}
    since, until = (others | {str(parameter.name): parsed}).values()
    if since is not None and until is not None and since >= until:
        raise click.UsageError("--since is not before --until, so nothing can match")
    return parsed


def require_known(config: Config, organisation: str | None, plugin: str | None = None) -> None:
    """`BadParameter` for a name that neither the config nor the journal has."""
    from gateway.config.convert import meant
    from gateway.config.field_types import show
    from gateway.journal import open_reader

    plugins = [table.name for table in config.plugins]
    new_organisation = None if organisation in config.organisations else organisation
    new_plugin = None if plugin in plugins else plugin
    if new_organisation is None and new_plugin is None:
        return
    with closing(open_reader(config)) as reader:
        if new_plugin is not None and not reader.knows_plugin(new_plugin):
            known = meant(new_plugin, sorted({*plugins, *reader.plugins()}))
            raise click.BadParameter(f"unknown plugin {show(new_plugin)}; {known}", param_hint="--plugin")
        if new_organisation is not None and not reader.knows_organisation(new_organisation):
            message = f"unknown organisation {show(new_organisation)}; {meant(new_organisation, config.organisations)}"
            raise click.BadParameter(message, param_hint="--organisation")


def narrows(which: Filter) -> bool:
    """Whether a filter has any condition."""
    from gateway.journal.interface import Filter

    return which != Filter()
