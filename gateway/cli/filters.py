"""Which events a command is about: the filter options that `events`, `dead` and `replay` share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from gateway.config.tables import Config
    from gateway.journal.interface import Filter

F = TypeVar("F", bound=Callable[..., Any])
STATES = ("delivered", "waiting", "retrying", "dead")


def hook_named(spelling: str, more: tuple[str, ...] = ()) -> str:
    """The hook that a spelling means: `inbound-message`, `inboundMessage`, `Inbound messages`; or one of `more`, as it
    is. `BadParameter`."""
    from gateway.config.convert import meant
    from gateway.config.field_types import show
    from gateway.decoding import hook_names, normalise
    from gateway.events import HOOKS

    if spelling in more:
        return spelling

    hook = hook_names({}).get(normalise(spelling))
    if hook is None:
        raise click.BadParameter(f"unknown hook {show(spelling)}; {meant(spelling, [*HOOKS, *more])}")
    return hook


def moment(text: str) -> datetime:
    """ISO 8601 (UTC where it names no zone), a duration before now, `now`, `today` or `yesterday`; `BadParameter`."""
    from gateway.config.field_types import Duration

    now: datetime = datetime.now(UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    words = {"now": now, "today": midnight, "yesterday": midnight - timedelta(days=1)}
    if text in words:
        return words[text]
    try:
        return now - timedelta(seconds=Duration.from_config(text, Path()))
    except (ValueError, OverflowError):
        pass
    try:
        parsed = datetime.fromisoformat(text)
        return parsed.replace(tzinfo=parsed.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        known = "2026-01-31, 2026-01-31T09:30, 2026-01-31T09:30+01:00, 2h, 7d, now, today or yesterday"
        raise click.BadParameter(f"{text!r} is no time; write {known}") from None


def filter_options(*, states: bool = False, plugin_required: bool = False, arguments: bool = True) -> Callable[[F], F]:
    """Adds the options, and ids as arguments, and hands them to the command as one `Filter`, `which`."""

    def decorate(function: F) -> F:
        @wraps(function)
        def command(
            ids: tuple[str, ...],
            hook: str | None,
            organisation: str | None,
            conversation: str | None,
            since: datetime | None,
            until: datetime | None,
            plugin: str | None,
            state: str | None = None,
            more_ids: tuple[str, ...] = (),
            **rest: Any,
        ) -> Any:
            from gateway.journal.interface import Filter

            in_order(since, until)
            which = Filter(
                ids=more_ids + ids,
                hook=hook,
                organisation=organisation,
                conversation=conversation,
                since=since,
                until=until,
                plugin=plugin,
                state=state,
            )
            return function(which=which, **rest)

        decorated: Any = command
        for option in reversed(_options(states, plugin_required)):
            decorated = option(decorated)
        if arguments:
            decorated = click.argument("more_ids", nargs=-1, metavar="[ID]...")(decorated)
        return decorated  # type: ignore[no-any-return]

    return decorate


def _options(states: bool, plugin_required: bool) -> list[Callable[[F], F]]:
    whose = "Whose --state is meant.  [default: any plugin]" if states else "This plugin's only."
    options = [
        click.option(
            "--plugin",
            metavar="NAME",
            required=plugin_required,
            help="The plugin that gets them, by its name in the config." if plugin_required else whose,
        ),
        click.option("--hook", metavar="HOOK", callback=_hook, help="Such as payment or inbound-message; or unknown."),
        click.option("--organisation", metavar="NAME", help="As named in the config."),
        click.option("--conversation", metavar="ID", help="Webio's conversationId."),
        click.option(
            "--since", metavar="TIME", callback=as_moment, help="From then on: 2026-01-31T09:30, 2h, 7d, today."
        ),
        click.option("--until", metavar="TIME", callback=as_moment, help="Before then. Times are UTC unless they say."),
        click.option("--id", "ids", metavar="ID", multiple=True, help="This event. Repeatable."),
    ]
    if states:
        help_text = "How far delivery is; delivered means: to every plugin."
        options.append(click.option("--state", type=click.Choice(STATES), help=help_text))
    return options


def _hook(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    return None if value is None else hook_named(value, ("unknown",))


def as_moment(context: click.Context, parameter: click.Parameter, value: str | None) -> datetime | None:
    return None if value is None else moment(value)


def in_order(since: datetime | None, until: datetime | None) -> None:
    """`UsageError` for a range that nothing can be in."""
    if since is not None and until is not None and since >= until:
        raise click.UsageError("--since is not before --until, so nothing can match")


def require_known(config: Config, organisation: str | None, plugin: str | None = None) -> None:
    """`BadParameter` for a name that neither the config nor the journal knows: nothing could match it."""
    from gateway.config.convert import meant
    from gateway.config.field_types import show
    from gateway.journal import open_reader

    plugins = [table.name for table in config.plugins]
    strange_organisation = organisation is not None and organisation not in config.organisations
    strange_plugin = plugin is not None and plugin not in plugins
    if not (strange_organisation or strange_plugin):
        return
    with closing(open_reader(config)) as reader:
        if plugin is not None and strange_plugin and not reader.knows_plugin(plugin):
            known = meant(plugin, sorted({*plugins, *reader.plugins()}))
            raise click.BadParameter(f"unknown plugin {show(plugin)}; {known}", param_hint="--plugin")
        if organisation is not None and strange_organisation and not reader.knows_organisation(organisation):
            known = meant(organisation, config.organisations)
            raise click.BadParameter(f"unknown organisation {show(organisation)}; {known}", param_hint="--organisation")


def narrows(which: Filter) -> bool:
    """Whether a filter leaves anything out."""
    from gateway.journal.interface import Filter

    return which != Filter()
