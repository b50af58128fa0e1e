"""What a journal raises. Import them from `gateway.journal.interface`."""

from __future__ import annotations


class JournalError(Exception):
    """The journal cannot do what was requested. The message is a sentence for the operator."""


class JournalRefused(JournalError):
    """The journal cannot be used until an operator changes the config, or what it names. A start ends with exit 78."""


class JournalFull(JournalError):
    """The journal is at its size limit, or the disk is (almost) full. Nothing was kept; try again later."""


class JournalFailed(JournalError):
    """A commit failed and its outcome is unknown. The journal accepts nothing any more, and the gateway stops."""


class JournalDamaged(JournalError):
    """What the journal holds is not what was written. It is not delivered; `gateway journal check` tells more."""


class LeaseLost(JournalError):
    """The cursor has a new owner, with a later epoch. Writes of the former owner are refused."""
