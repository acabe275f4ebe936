"""Appraisal policies: what genuine evidence must say to be acceptable.

A policy is an allow-list and complete: an expectation that is not set is an error when the policy is made, and "any"
must be written out. Debug enclaves and simulated platforms are refused unless the policy names them.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final, Literal, NoReturn

from strongroom.attestation.claims import MAX_ADVISORIES, MAX_ADVISORY_LENGTH, TcbStatus, parse_tcb_status
from strongroom.attestation.measurements import (
    ANY,
    Anything,
    EnclaveIdentity,
    Measurement,
    SignerIdentity,
    TdIdentity,
    measurement_from_json,
    measurement_to_json,
)
from strongroom.errors import ConfigurationError, FormatError
from strongroom.formats.canonical import JsonValue, canonical_json
from strongroom.formats.members import Members

__all__ = [
    "ANY",
    "AcceptedAdvisory",
    "Anything",
    "AppraisalPolicy",
    "EnclaveIdentity",
    "Measurement",
    "SignerIdentity",
    "TdIdentity",
]

MAX_MEASUREMENTS: Final = 256
_CODE: Final = "policy.malformed"
_WHAT: Final = "policy"
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


Tee = Literal["sgx", "tdx"]


@dataclass(frozen=True, slots=True, order=True)
class AcceptedAdvisory:
    """A security advisory that is tolerated for a while.

    Args:
        advisory: Intel's id, e.g. ``INTEL-SA-00615``.
        until: Last day on which it is accepted, UTC.
    """

    advisory: str
    until: date

    def __post_init__(self) -> None:
        """Checks the id.

        Raises:
            ConfigurationError: Empty or too long (``policy.advisory``).
        """
        if not 0 < len(self.advisory) <= MAX_ADVISORY_LENGTH:
            raise ConfigurationError("an advisory id has 1 to 64 characters", code="policy.advisory")


def _unset(name: str) -> NoReturn:
    raise ConfigurationError(
        f"the policy does not say what it expects of {name}",
        code="policy.unset",
        hint='set it; where everything may be accepted, "any" must be written out',
    )


def _required(name: str) -> Callable[[], Any]:
    return lambda: _unset(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class AppraisalPolicy:
    """What evidence must say; making an incomplete policy raises `ConfigurationError` (``policy.unset``).

    Args:
        measurements: Which code; one must match.
        tees: Which kinds of trusted execution environment.
        tcb_statuses: Which of Intel's judgements of the platform; "Revoked" can't be accepted.
        advisories: Which open security advisories, each until a day; empty: none; or `ANY`.
        min_tcb_eval_data_number: How recent that judgement must be, or `ANY`. Stops replay of older collateral.
        accept_simulated: Whether evidence may come from a simulated platform, which protects nothing.
    """

    measurements: tuple[Measurement, ...] = field(default_factory=_required("measurements"))
    tees: frozenset[Tee] = field(default_factory=_required("tees"))
    tcb_statuses: frozenset[TcbStatus] = field(default_factory=_required("tcb_statuses"))
    advisories: tuple[AcceptedAdvisory, ...] | Anything = field(default_factory=_required("advisories"))
    min_tcb_eval_data_number: int | Anything = field(default_factory=_required("min_tcb_eval_data_number"))
    accept_simulated: bool = False

    def __post_init__(self) -> None:
        """Checks that the policy is complete and can be met.

        Raises:
            ConfigurationError: An allow-list is empty (``policy.unset``) or holds what can't be accepted
                (``policy.invalid``).
        """
        for name in ("measurements", "tees", "tcb_statuses"):
            if not getattr(self, name):
                _unset(name)
        if len(self.measurements) > MAX_MEASUREMENTS or not self.tees <= {"sgx", "tdx"}:
            raise ConfigurationError("too many measurements or an unknown TEE", code="policy.invalid")
        if "Revoked" in self.tcb_statuses:
            raise ConfigurationError("a revoked platform can't be accepted", code="policy.invalid")
        if any(_tee_of(measurement) not in self.tees for measurement in self.measurements):
            raise ConfigurationError("a measurement is of a TEE that is not accepted", code="policy.invalid")
        if isinstance(self.advisories, tuple) and len({a.advisory for a in self.advisories}) != len(self.advisories):
            raise ConfigurationError("an advisory is named twice", code="policy.invalid")
        if isinstance(self.min_tcb_eval_data_number, int) and self.min_tcb_eval_data_number < 0:
            raise ConfigurationError("min_tcb_eval_data_number is negative", code="policy.invalid")

    @property
    def digest(self) -> bytes:
        """SHA-256 of the policy's canonical JSON, 32 bytes: which policy decided."""
        return hashlib.sha256(canonical_json(self.to_json())).digest()

    def to_json(self) -> dict[str, JsonValue]:
        """A JSON object (also representable in TOML), bytes in hexadecimal, sets sorted."""
        advisories: JsonValue = "any"
        if isinstance(self.advisories, tuple):
            advisories = {accepted.advisory: accepted.until.isoformat() for accepted in sorted(self.advisories)}
        minimum = self.min_tcb_eval_data_number
        return {
            "measurements": [measurement_to_json(measurement) for measurement in self.measurements],
            "tees": sorted(self.tees),
            "tcb_statuses": sorted(self.tcb_statuses),
            "advisories": advisories,
            "min_tcb_eval_data_number": minimum if isinstance(minimum, int) else "any",
            "accept_simulated": self.accept_simulated,
        }

    @classmethod
    def from_json(cls, value: object) -> "AppraisalPolicy":
        """Reads the JSON form; only `accept_simulated` may be left out.

        Args:
            value: The parsed JSON or TOML object.

        Returns:
            The policy.

        Raises:
            FormatError: A member is unknown or malformed (``policy.malformed``).
            ConfigurationError: An expectation is not set or makes no sense (``policy.*``).
        """
        members = Members(value, what=_WHAT, code=_CODE)
        for name in ("measurements", "tees", "tcb_statuses", "advisories", "min_tcb_eval_data_number"):
            if name not in members:
                _unset(name)
        measurements = members.items("measurements", max_items=MAX_MEASUREMENTS)
        statuses = members.texts("tcb_statuses", max_items=16, max_length=64)
        policy = cls(
            measurements=tuple(measurement_from_json(item) for item in measurements),
            tees=frozenset(_tee(text) for text in members.texts("tees", max_items=2, max_length=8)),
            tcb_statuses=frozenset(parse_tcb_status(text) for text in statuses),
            advisories=_advisories_from_json(members.value("advisories")),
            min_tcb_eval_data_number=_minimum_from_json(members),
            accept_simulated=_permission(members, "accept_simulated"),
        )
        members.finish()
        return policy


def _tee_of(measurement: Measurement) -> Tee:
    return "tdx" if isinstance(measurement, TdIdentity) else "sgx"


def _tee(text: str) -> Tee:
    if text == "sgx":
        return "sgx"
    if text == "tdx":
        return "tdx"
    raise FormatError("policy: tees are sgx and tdx", code=_CODE)


def _advisories_from_json(value: object) -> tuple[AcceptedAdvisory, ...] | Anything:
    if value == "any":
        return ANY
    if not isinstance(value, Mapping) or len(value) > MAX_ADVISORIES:
        raise FormatError('policy: advisories are {"INTEL-SA-...": "2027-01-31"} or "any"', code=_CODE)
    members = Members(value, what="policy.advisories", code=_CODE)
    return tuple(AcceptedAdvisory(name, _date(members.text(name), members, name)) for name in sorted(value))


def _date(text: str, members: Members, name: str) -> date:
    try:
        if _DATE.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise members.refuse(name[:MAX_ADVISORY_LENGTH], "is not accepted until a day like 2027-01-31")


def _minimum_from_json(members: Members) -> int | Anything:
    name = "min_tcb_eval_data_number"
    value = members.value(name)
    return ANY if value == "any" else Members({name: value}, what=_WHAT, code=_CODE).number(name)


def _permission(members: Members, name: str) -> bool:
    return members.boolean(name) if name in members else False
