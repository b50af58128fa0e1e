"""When each secret last verified a token, so that an operator sees which one is still needed."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.config.tables import OrganisationSettings


class SecretUse:
    """When one secret last verified a token, in seconds since 1970; 0 where it has not since the start."""

    __slots__ = ("at",)

    def __init__(self) -> None:
        self.at = 0.0


class SecretUses:
    """The uses of all organisations' secrets. After a reload it takes over what `before` has of the same secrets."""

    def __init__(self, organisations: Mapping[str, OrganisationSettings], before: SecretUses | None = None) -> None:
        known = {} if before is None else before._uses
        self._secrets = {name: [secret.value for secret in one.secrets] for name, one in organisations.items()}
        keys = [(name, value) for name, values in self._secrets.items() for value in values]
        self._uses: dict[tuple[str, bytes], SecretUse] = {key: known.get(key) or SecretUse() for key in keys}

    def of(self, organisation: str, secret: bytes) -> SecretUse:
        return self._uses[organisation, secret]

    def last(self) -> dict[tuple[str, int], float]:
        """When each secret was last used, by organisation and index in its `secrets`; see `SecretUse`."""
        return {
            (name, index): self._uses[name, value].at
            for name, values in self._secrets.items()
            for index, value in enumerate(values)
        }
