"""The tier *complete*: the plugin forgets, explains its settings, and is typed."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from typing import Any, Final

from gateway.plugin_host.bind import HOOK_NAMES
from gateway.plugin_host.settings import settings_of
from gateway.plugin_host.sources import config_of
from gateway.selector import Selector
from gateway.testing.checking.bench import NAME, Bench
from gateway.testing.checking.report import CheckFailed, NotApplicable


def forgets(bench: Bench) -> None:
    """`forget` erases what the target has of a customer, an address or a conversation, returns how many records those
    were, leaves all others, and can be called again. A plugin that passes events on returns a sentence that says so, or
    has no `forget`."""
    read = bench.need_taken()
    if not bench.case.keeps:
        if not hasattr(bench.kind, "forget"):
            raise NotApplicable("PluginCase(keeps=False): it only passes events on")
        bench.run(_passed_on(bench))
        return
    if not hasattr(bench.kind, "forget"):
        raise CheckFailed(
            "the plugin keeps events and has no forget(selector); with keeps=False it only passes them on"
        )
    bench.run(_forgets(bench, read))


async def _forgets(bench: Bench, read: Any) -> None:
    selectors = {
        "customerUID": Selector(customer_uid="forgotten"),
        "outboundChannelAddress": Selector(address="44 7700 900999"),
        "conversationId": Selector(conversation_id="97847999"),
    }
    async with bench.gateway() as gateway:
        for field, selector in selectors.items():
            value = "447700900999" if field == "outboundChannelAddress" else next(filter(None, _given(selector)))
            gone = [await gateway.webio.send(bench.hook(), **{field: value}) for _ in range(2)]
            kept = await gateway.webio.send(bench.hook())
            await gateway.until_delivered(NAME)
            count = (await gateway.forget(selector)).get(NAME)
            left = set(read())
            if left & set(gone):
                raise CheckFailed(f"forget by {field} left {len(left & set(gone))} of 2 events in the target")
            if kept not in left:
                raise CheckFailed(f"forget by {field} erased an event of another")
            if count != 2:
                raise CheckFailed(f"forget by {field} returned {count}, and 2 records were to be erased")
            if again := (await gateway.forget(selector)).get(NAME):
                raise CheckFailed(f"forget by {field} returned {again} the second time, and nothing was left")


async def _passed_on(bench: Bench) -> None:
    async with bench.gateway() as gateway:
        await gateway.webio.send(bench.hook(), customerUID="forgotten")
        await gateway.until_delivered(NAME)
        said = (await gateway.forget(Selector(customer_uid="forgotten")))[NAME]
        if not isinstance(said, str):
            raise CheckFailed(
                f"forget returned {said!r}; with keeps=False, return a sentence that says where events went"
            )


def _given(selector: Selector) -> tuple[str | None, ...]:
    return selector.customer_uid, selector.address, selector.conversation_id


def settings_are_described(bench: Bench) -> None:
    """Each key of `Config`, and of the tables in it, has a description:
    `Annotated[..., msgspec.Meta(description=...)]`."""
    lacking = [one.key for one in settings_of(config_of(bench.kind)) if not one.meaning]
    if lacking:
        raise CheckFailed(f"without a description: {', '.join(lacking)}")


def is_described(bench: Bench) -> None:
    """The class has a docstring of its own: its first line says what the plugin does."""
    if not (bench.kind.__doc__ or "").strip():
        raise CheckFailed(f"{bench.kind.__qualname__} has no docstring")


def is_typed(bench: Bench) -> None:
    """Each hook and `__init__` has types for its arguments and its result, and the package has a `py.typed`."""
    for name in ("__init__", *HOOK_NAMES):
        method = inspect.getattr_static(bench.kind, name, None)
        if not inspect.isfunction(method):
            continue
        signature = inspect.signature(method)
        lacking = [p.name for p in list(signature.parameters.values())[1:] if p.annotation is p.empty]
        if lacking or signature.return_annotation is signature.empty:
            raise CheckFailed(f"{name} lacks types: {', '.join([*lacking, 'its result'][:3])}")
    package = bench.kind.__module__.partition(".")[0]
    spec = importlib.util.find_spec(package) if package != "__main__" else None
    folders = [] if spec is None else [Path(folder) for folder in spec.submodule_search_locations or ()]
    if folders and not any((folder / "py.typed").exists() for folder in folders):
        raise CheckFailed(f"the package {package} has no py.typed: its types do not count for others")


CHECKS: Final = (forgets, settings_are_described, is_described, is_typed)
