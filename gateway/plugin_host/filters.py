"""Which events of its hooks a plugin gets: the keys `hooks` and `organisations` of its table. For `where` see there."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from gateway.config.convert import Problem, dotted
from gateway.config.tables import PluginSettings
from gateway.events import Event
from gateway.plugin_host.bind import EVENT_HOOKS


def hook_name(method: str) -> str:
    """The hook of Webio's, such as `set-status`, that a method like `on_set_status` is called for."""
    return method.removeprefix("on_").replace("_", "-")


class EventFilter:
    """The filter of one plugin; `methods` are its hooks."""

    def __init__(self, settings: PluginSettings, methods: Collection[str]) -> None:
        self._settings = settings
        self._hooks = None if settings.hooks is None else frozenset(settings.hooks)
        self._organisations = None if settings.organisations is None else frozenset(settings.organisations)
        events = EVENT_HOOKS.intersection(methods)
        self._general = "on_event" in events
        self._own = {hook_name(method) for method in events - {"on_event"}}
        self.admits_all = self._hooks is None and self._organisations is None
        """Whether no event is held back from the plugin."""

    def admits(self, event: Event) -> bool:
        """Whether the plugin gets an event, where it has a hook for it."""
        return (self._hooks is None or event.hook in self._hooks) and (
            self._organisations is None or event.organisation in self._organisations
        )

    @property
    def hooks(self) -> tuple[str, ...] | None:
        """The hooks that the plugin gets events of, such as `payment`; None for every hook."""
        if self._general:
            return None if self._hooks is None else tuple(sorted(self._hooks))
        return tuple(sorted(self._own if self._hooks is None else self._own & self._hooks))

    @property
    def takes(self) -> tuple[str, ...] | None:
        """The same for the journal, as `Cursors.take_cursor` has it; None for every event."""
        names = ["*"] if self.hooks is None else [f"{hook}*" if self._general else hook for hook in self.hooks]
        if self._organisations is not None:
            return tuple(f"{name}@{organisation}" for name in names for organisation in sorted(self._organisations))
        return None if names == ["*"] else tuple(names)

    def without_effect(self, plugin: str) -> Iterator[Problem]:
        """Warnings: what of the filter never matches, likely by mistake."""
        path = dotted("plugins", plugin)
        for key, given in (
            ("hooks", self._settings.hooks),
            ("organisations", self._settings.organisations),
            ("where", self._settings.where),
        ):
            if given is not None and not (self._general or self._own):
                yield Problem(f"{path}.{key}", "has no effect: the plugin takes no events")
        if self._own and not self._general:
            for index, hook in enumerate(self._settings.hooks or ()):
                if hook not in self._own:
                    what = f"the plugin does not take events of {hook}; it takes {', '.join(sorted(self._own))}"
                    yield Problem(f"{path}.hooks[{index}]", what)
