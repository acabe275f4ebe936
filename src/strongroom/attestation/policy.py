"""Appraisal policies: what genuine evidence must say to be acceptable.

A policy is an allow-list and complete: an expectation that is not set is an error when the policy is made, and "any"
must be written out. Debug enclaves and simulated platforms are refused unless the policy names them.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final, NoReturn

from strongroom.attestation.claims import (
    AMD_TEES,
    INTEL_TEES,
    MAX_ADVISORIES,
    MAX_ADVISORY_LENGTH,
    TEES,
    TcbStatus,
    parse_tcb_status,
    parse_tee,
)
from strongroom.attestation.measurements import (
    ANY,
    Anything,
    EnclaveIdentity,
    Measurement,
    SignerIdentity,
    SnpIdentity,
    TdIdentity,
    VtpmIdentity,
    measurement_from_json,
    measurement_to_json,
    tee_of,
)
from strongroom.attestation.snp_policy import SnpExpectations
from strongroom.errors import ConfigurationError, FormatError
from strongroom.formats.canonical import JsonValue, canonical_json
from strongroom.formats.evidence import Tee
from strongroom.formats.members import Members

__all__ = [
    "ANY",
    "AcceptedAdvisory",
    "Anything",
    "AppraisalPolicy",
    "EnclaveIdentity",
    "Measurement",
    "SignerIdentity",
    "SnpExpectations",
    "SnpIdentity",
    "TdIdentity",
    "VtpmIdentity",
]

MAX_MEASUREMENTS: Final = 256
_CODE: Final = "policy.malformed"
_WHAT: Final = "policy"
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_INTEL: Final = ("tcb_statuses", "advisories", "min_tcb_eval_data_number")


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
        tcb_statuses: Which of Intel's judgements of the platform; "Revoked" can't be accepted. This and the next two
            are set if an Intel TEE is among `tees`, and only then.
        advisories: Which open security advisories, each until a day; empty: none; or `ANY`.
        min_tcb_eval_data_number: How recent that judgement must be, or `ANY`. Stops replay of older collateral.
        snp: What an SEV-SNP platform must be; set if an AMD TEE is among `tees`, and only then.
        accept_simulated: Whether evidence may come from a simulated platform, which protects nothing.
    """

    measurements: tuple[Measurement, ...] = field(default_factory=_required("measurements"))
    tees: frozenset[Tee] = field(default_factory=_required("tees"))
    tcb_statuses: frozenset[TcbStatus] | None = None
    advisories: tuple[AcceptedAdvisory, ...] | Anything | None = None
    min_tcb_eval_data_number: int | Anything | None = None
    snp: SnpExpectations | None = None
    accept_simulated: bool = False

    def __post_init__(self) -> None:
        """Checks that the policy is complete and can be met.

        Raises:
            ConfigurationError: An allow-list is empty (``policy.unset``) or holds what can't be accepted
                (``policy.invalid``).
        """
        for name in ("measurements", "tees"):
            if not getattr(self, name):
                _unset(name)
        if len(self.measurements) > MAX_MEASUREMENTS or not self.tees <= set(TEES):
            raise ConfigurationError("too many measurements or an unknown TEE", code="policy.invalid")
        self._check_vendor(INTEL_TEES, _INTEL)
        self._check_vendor(AMD_TEES, ("snp",))
        if "Revoked" in (self.tcb_statuses or ()):
            raise ConfigurationError("a revoked platform can't be accepted", code="policy.invalid")
        if any(tee_of(measurement) not in self.tees for measurement in self.measurements):
            raise ConfigurationError("a measurement is of a TEE that is not accepted", code="policy.invalid")
        if isinstance(self.advisories, tuple) and len({a.advisory for a in self.advisories}) != len(self.advisories):
            raise ConfigurationError("an advisory is named twice", code="policy.invalid")
        if isinstance(self.min_tcb_eval_data_number, int) and self.min_tcb_eval_data_number < 0:
            raise ConfigurationError("min_tcb_eval_data_number is negative", code="policy.invalid")

    def _check_vendor(self, tees: frozenset[Tee], names: tuple[str, ...]) -> None:
        """Checks that what a vendor's TEEs need is set if one is accepted, and only then.

        Raises:
            ConfigurationError: It is not (``policy.unset``, ``policy.invalid``).
        """
        accepted = bool(self.tees & tees)
        for name in names:
            unset = getattr(self, name) in (None, frozenset())
            if accepted and unset:
                _unset(name)
            if not accepted and not unset:
                raise ConfigurationError(f"{name} is about TEEs that are not accepted", code="policy.invalid")

    @property
    def digest(self) -> bytes:
        """SHA-256 of the policy's canonical JSON, 32 bytes: which policy decided."""
        return hashlib.sha256(canonical_json(self.to_json())).digest()

    def to_json(self) -> dict[str, JsonValue]:
        """A JSON object (also representable in TOML), bytes in hexadecimal, sets sorted."""
        values: dict[str, JsonValue] = {
            "measurements": [measurement_to_json(measurement) for measurement in self.measurements],
            "tees": sorted(self.tees),
            "accept_simulated": self.accept_simulated,
        }
        if self.tcb_statuses is not None:
            values |= {
                "tcb_statuses": sorted(self.tcb_statuses),
                "advisories": _advisories_to_json(self.advisories),
                "min_tcb_eval_data_number": _number_to_json(self.min_tcb_eval_data_number),
            }
        return values if self.snp is None else values | {"snp": self.snp.to_json()}

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
        for name in ("measurements", "tees"):
            if name not in members:
                _unset(name)
        measurements = members.items("measurements", max_items=MAX_MEASUREMENTS)
        policy = cls(
            measurements=tuple(measurement_from_json(item) for item in measurements),
            tees=frozenset(parse_tee(text) for text in members.texts("tees", max_items=len(TEES), max_length=16)),
            tcb_statuses=_statuses_from_json(members) if "tcb_statuses" in members else None,
            advisories=_advisories_from_json(members.value("advisories")) if "advisories" in members else None,
            min_tcb_eval_data_number=_minimum_from_json(members) if "min_tcb_eval_data_number" in members else None,
            snp=SnpExpectations.from_json(members.value("snp")) if "snp" in members else None,
            accept_simulated=_permission(members, "accept_simulated"),
        )
        members.finish()
        return policy


def _statuses_from_json(members: Members) -> frozenset[TcbStatus]:
    texts = members.texts("tcb_statuses", max_items=16, max_length=64)
    return frozenset(parse_tcb_status(text) for text in texts)


def _advisories_to_json(advisories: tuple[AcceptedAdvisory, ...] | Anything | None) -> JsonValue:
    if not isinstance(advisories, tuple):
        return "any"
    return {accepted.advisory: accepted.until.isoformat() for accepted in sorted(advisories)}


def _number_to_json(number: int | Anything | None) -> JsonValue:
    return number if isinstance(number, int) else "any"


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
