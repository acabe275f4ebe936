"""Appraisal policies: what genuine evidence must say to be acceptable.

A policy is an allow-list and complete: an expectation that is not set is an error when the policy is made, and "any"
must be written out. Debug enclaves and simulated platforms are refused unless the policy names them.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import Enum
from typing import Any, Final, Literal, NoReturn

from strongroom.attestation.claims import MAX_ADVISORIES, MAX_ADVISORY_LENGTH, TcbStatus, parse_tcb_status
from strongroom.errors import ConfigurationError, FormatError
from strongroom.formats.canonical import JsonValue, canonical_json
from strongroom.formats.members import Members

MAX_MEASUREMENTS: Final = 256
_CODE: Final = "policy.malformed"
_WHAT: Final = "policy"
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Anything(Enum):
    """The expectation that accepts everything; it must be written out."""

    ANY = "any"


ANY: Final = Anything.ANY
Tee = Literal["sgx", "tdx"]


@dataclass(frozen=True, slots=True)
class SignerIdentity:
    """Any SGX code that this signer released as this product, not older than this version.

    Args:
        mr_signer: SHA-256 of the signer's modulus, 32 bytes.
        isv_prod_id: Exact product id, u16.
        min_isv_svn: Smallest security version, u16.
    """

    mr_signer: bytes
    isv_prod_id: int
    min_isv_svn: int

    def __post_init__(self) -> None:
        """Checks lengths and ranges.

        Raises:
            ConfigurationError: A field is out of range (``policy.measurement``).
        """
        _check_length("mr_signer", self.mr_signer, 32)
        if not (0 <= self.isv_prod_id <= 0xFFFF and 0 <= self.min_isv_svn <= 0xFFFF):
            raise ConfigurationError("isv_prod_id and min_isv_svn are 0 to 65535", code="policy.measurement")


@dataclass(frozen=True, slots=True)
class EnclaveIdentity:
    """Exactly this SGX code.

    Args:
        mr_enclave: 32 bytes.
        signer: Who must have released this very code, too; None: whoever did. The measurement does not cover the
            signer, the product id and the security version, and sealing keys depend on them.
    """

    mr_enclave: bytes
    signer: SignerIdentity | None = None

    def __post_init__(self) -> None:
        """Checks the length.

        Raises:
            ConfigurationError: Not 32 bytes (``policy.measurement``).
        """
        _check_length("mr_enclave", self.mr_enclave, 32)


@dataclass(frozen=True, slots=True)
class TdIdentity:
    """Exactly this trust domain.

    Args:
        mr_td: 48 bytes.
        rtmrs: The four run-time registers, 48 bytes each, or `ANY` for one that may be anything.
    """

    mr_td: bytes
    rtmrs: tuple[bytes | Anything, bytes | Anything, bytes | Anything, bytes | Anything]

    def __post_init__(self) -> None:
        """Checks the lengths.

        Raises:
            ConfigurationError: Not four registers, or one is not 48 bytes (``policy.measurement``).
        """
        _check_length("mr_td", self.mr_td, 48)
        if len(self.rtmrs) != 4:
            raise ConfigurationError('rtmrs are four: write "any" for those that may vary', code="policy.measurement")
        for rtmr in self.rtmrs:
            if rtmr is not ANY:
                _check_length("rtmr", rtmr, 48)


Measurement = EnclaveIdentity | SignerIdentity | TdIdentity


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
        dangerous_accept_debug: Whether the host may read the enclave's memory.
        accept_simulated: Whether evidence may come from a simulated platform, which protects nothing.
    """

    measurements: tuple[Measurement, ...] = field(default_factory=_required("measurements"))
    tees: frozenset[Tee] = field(default_factory=_required("tees"))
    tcb_statuses: frozenset[TcbStatus] = field(default_factory=_required("tcb_statuses"))
    advisories: tuple[AcceptedAdvisory, ...] | Anything = field(default_factory=_required("advisories"))
    min_tcb_eval_data_number: int | Anything = field(default_factory=_required("min_tcb_eval_data_number"))
    dangerous_accept_debug: bool = False
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
            "measurements": [_measurement_to_json(measurement) for measurement in self.measurements],
            "tees": sorted(self.tees),
            "tcb_statuses": sorted(self.tcb_statuses),
            "advisories": advisories,
            "min_tcb_eval_data_number": minimum if isinstance(minimum, int) else "any",
            "dangerous_accept_debug": self.dangerous_accept_debug,
            "accept_simulated": self.accept_simulated,
        }

    @classmethod
    def from_json(cls, value: object) -> "AppraisalPolicy":
        """Reads the JSON form; only the two dangerous permissions may be left out.

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
            measurements=tuple(_measurement_from_json(item) for item in measurements),
            tees=frozenset(_tee(text) for text in members.texts("tees", max_items=2, max_length=8)),
            tcb_statuses=frozenset(parse_tcb_status(text) for text in statuses),
            advisories=_advisories_from_json(members.value("advisories")),
            min_tcb_eval_data_number=_minimum_from_json(members),
            dangerous_accept_debug=_permission(members, "dangerous_accept_debug"),
            accept_simulated=_permission(members, "accept_simulated"),
        )
        members.finish()
        return policy


def _check_length(name: str, value: bytes, size: int) -> None:
    if len(value) != size:
        raise ConfigurationError(f"{name} has {len(value)} bytes, expected {size}", code="policy.measurement")


def _tee_of(measurement: Measurement) -> Tee:
    return "tdx" if isinstance(measurement, TdIdentity) else "sgx"


def _tee(text: str) -> Tee:
    if text == "sgx":
        return "sgx"
    if text == "tdx":
        return "tdx"
    raise FormatError("policy: tees are sgx and tdx", code=_CODE)


def _measurement_to_json(measurement: Measurement) -> JsonValue:
    match measurement:
        case EnclaveIdentity():
            signer = {} if measurement.signer is None else _signer_to_json(measurement.signer)
            return {"mr_enclave": measurement.mr_enclave.hex()} | signer
        case SignerIdentity():
            return _signer_to_json(measurement)
        case TdIdentity():
            rtmrs = ["any" if isinstance(rtmr, Anything) else rtmr.hex() for rtmr in measurement.rtmrs]
            return {"mr_td": measurement.mr_td.hex(), "rtmrs": rtmrs}


def _signer_to_json(signer: SignerIdentity) -> dict[str, JsonValue]:
    return {
        "mr_signer": signer.mr_signer.hex(),
        "isv_prod_id": signer.isv_prod_id,
        "min_isv_svn": signer.min_isv_svn,
    }


def _signer_from_json(members: Members) -> SignerIdentity:
    return SignerIdentity(
        members.octets("mr_signer", 32),
        members.number("isv_prod_id", maximum=0xFFFF),
        members.number("min_isv_svn", maximum=0xFFFF),
    )


def _measurement_from_json(value: object) -> Measurement:
    members = Members(value, what="policy.measurements", code=_CODE)
    measurement: Measurement
    if "mr_enclave" in members:
        code = members.octets("mr_enclave", 32)
        measurement = EnclaveIdentity(code, _signer_from_json(members) if "mr_signer" in members else None)
    elif "mr_signer" in members:
        measurement = _signer_from_json(members)
    else:
        measurement = TdIdentity(members.octets("mr_td", 48), _rtmrs_from_json(members))
    members.finish()
    return measurement


def _rtmrs_from_json(
    members: Members,
) -> tuple[bytes | Anything, bytes | Anything, bytes | Anything, bytes | Anything]:
    texts = members.texts("rtmrs", max_items=4, max_length=96)
    if len(texts) != 4:
        raise members.refuse("rtmrs", "are not four")
    registers = Members({f"rtmr_{i}": text for i, text in enumerate(texts)}, what="policy.rtmrs", code=_CODE)
    first, second, third, fourth = (
        ANY if text == "any" else registers.octets(f"rtmr_{i}", 48) for i, text in enumerate(texts)
    )
    return first, second, third, fourth


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
