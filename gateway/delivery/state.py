"""Where an event stands on its way to one plugin. `docs/architecture.md` draws the same transitions."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class State(StrEnum):
    """What happens to an event now."""

    UNREAD = "unread"
    """In the journal, and to be read (again)."""
    QUEUED = "queued"
    """In memory, to be handed to the plugin after the events before it."""
    WAITING = "waiting"
    """Parked in the journal until the events before it in its conversation have left."""
    RUNNING = "running"
    """With the plugin."""
    RETRYING = "retrying"
    """Parked in the journal until its time comes."""
    FETCHING = "fetching"
    """Its time has come; it is being read from the journal again."""
    TAKEN = "taken"
    """The plugin returned; its next checkpoint makes that durable."""
    SETTLED = "settled"
    """Delivered for good."""
    DEAD = "dead"
    """A dead letter."""


TRANSITIONS: Final = {
    (State.UNREAD, State.QUEUED): "read, and nothing before it in its conversation is parked",
    (State.UNREAD, State.WAITING): "read behind a parked event, or taken up from the journal",
    (State.UNREAD, State.DEAD): "read, but the process has died with it too often",
    (State.QUEUED, State.RUNNING): "handed to the plugin",
    (State.QUEUED, State.WAITING): "an event before it is parked, or the gateway stops",
    (State.RUNNING, State.TAKEN): "the plugin returned",
    (State.RUNNING, State.RETRYING): "failed, with attempts left",
    (State.RUNNING, State.DEAD): "rejected, or failed for the last time",
    (State.RUNNING, State.QUEUED): "not attempted, because the plugin was stuck or slow",
    (State.RUNNING, State.WAITING): "failed or not attempted, behind a parked event",
    (State.WAITING, State.RETRYING): "it is its turn",
    (State.WAITING, State.DEAD): "its retry was cancelled",
    (State.RETRYING, State.DEAD): "its retry was cancelled",
    (State.QUEUED, State.DEAD): "its retry was cancelled",
    (State.RETRYING, State.FETCHING): "its time has come",
    (State.RETRYING, State.WAITING): "an operator had an event before it retried",
    (State.FETCHING, State.QUEUED): "read again",
    (State.FETCHING, State.WAITING): "an operator had an event before it retried",
    (State.FETCHING, State.SETTLED): "the journal no longer has it",
    (State.FETCHING, State.DEAD): "the process has died with it too often, or its retry was cancelled",
    (State.RUNNING, State.SETTLED): "a replay failed, and an operator has had the same dead letter retried",
    (State.TAKEN, State.SETTLED): "the checkpoint succeeded",
    (State.QUEUED, State.UNREAD): "a checkpoint failed, or its replay was cancelled",
    (State.RUNNING, State.UNREAD): "a checkpoint failed, and the plugin kept the event too long",
    (State.RETRYING, State.UNREAD): "a checkpoint failed",
    (State.WAITING, State.UNREAD): "a checkpoint failed",
    (State.FETCHING, State.UNREAD): "a checkpoint failed",
    (State.TAKEN, State.UNREAD): "a checkpoint failed",
}
