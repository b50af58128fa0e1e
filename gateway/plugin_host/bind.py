"""Binds the hooks of a plugin's instance once, so that a call needs no look-up."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pluggy

from gateway.config.convert import meant
from gateway.hookspecs import PROJECT, Hooks
from gateway.plugin_host.call import Impl

HOOK_NAMES = tuple(name for name in vars(Hooks) if not name.startswith("_"))
EVENT_HOOKS = frozenset(name for name in HOOK_NAMES if name.startswith("on_"))


class HookError(ValueError):
    """A hook cannot be bound; a sentence for the plugin's author."""


class _Manager(pluggy.PluginManager):
    """pluggy finds the implementations and checks their signatures; a method named like a hook is one, marked or
    not, so that a forgotten marker does not switch a plugin off in silence."""

    def parse_hookimpl_opts(self, plugin: object, name: str) -> Any:
        options = super().parse_hookimpl_opts(plugin, name)
        if options is not None:
            _known(options["specname"] or name)
        elif name in HOOK_NAMES and inspect.isroutine(inspect.getattr_static(plugin, name, None)):
            return {
                "wrapper": False,
                "hookwrapper": False,
                "optionalhook": False,
                "tryfirst": False,
                "trylast": False,
                "specname": None,
            }
        return options


def bind(instance: Any, name: str) -> dict[str, Impl]:
    """Bind an instance's hooks; `HookError` for a misspelt hook or argument."""
    manager = _Manager(PROJECT)
    manager.add_hookspecs(Hooks)
    for method in dir(type(instance)):
        if method.startswith("on_"):
            _known(method)
    try:
        manager.register(instance, name)
    except pluggy.PluginValidationError as error:
        raise HookError(_sentence(str(error))) from None
    hooks = {}
    for hook in HOOK_NAMES:
        caller = getattr(manager.hook, hook)
        for impl in caller.get_hookimpls():
            if impl.hookwrapper or impl.wrapper:
                raise HookError(f"{hook} is a hook wrapper; wrappers are not supported")
            if inspect.isgeneratorfunction(impl.function) or inspect.isasyncgenfunction(impl.function):
                raise HookError(f"{hook} has a yield in it: calling it would do nothing")
            arguments = tuple(caller.spec.argnames)
            order = None if impl.argnames == arguments else tuple(map(arguments.index, impl.argnames))
            hooks[hook] = Impl(hook, impl.function, order)
    return hooks


def _known(hook: str) -> None:
    if hook not in HOOK_NAMES:
        reserved = "; names that begin with on_ are reserved for hooks" if hook.startswith("on_") else ""
        raise HookError(f"unknown hook {hook}; {meant(hook, HOOK_NAMES)}{reserved}")


def _sentence(text: str) -> str:
    """What pluggy says of an argument that a hook does not have."""
    found = re.search(r"for hook '(\w+)'.*Argument\(s\) \{(.*)\} are declared", text, re.DOTALL)
    if found is None:
        return " ".join(text.split())
    hook, arguments = found.groups()
    known = ", ".join(list(inspect.signature(getattr(Hooks, hook)).parameters)[1:]) or "none"
    return f"{hook} has no argument {arguments}; arguments: {known}"
