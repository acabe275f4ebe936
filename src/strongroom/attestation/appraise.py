"""Acceptable? Compares claims with a policy and reports every finding, not just the first."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import InitVar, dataclass
from datetime import UTC, datetime
from typing import Final, NoReturn

from strongroom.attestation.claims import Claims
from strongroom.attestation.policy import (
    ANY,
    AppraisalPolicy,
    EnclaveIdentity,
    Measurement,
    SignerIdentity,
    TdIdentity,
)
from strongroom.errors import ConfigurationError, Finding
from strongroom.formats.members import timestamp

_PROOF: Final = object()
# A measurement that differs in one of these is a stranger; one that differs only in the others is a near miss.
_IDENTITY_CODES: Final = frozenset({"measurement.mr_enclave", "measurement.mr_signer", "measurement.mr_td"})


class _NoTruthValue:
    __slots__ = ()

    def __bool__(self) -> NoReturn:
        raise TypeError("an appraisal has no truth value: match on its type")


@dataclass(frozen=True, slots=True)
class Accepted(_NoTruthValue):
    """The claims meet the policy; only `appraise` makes one.

    Args:
        claims: What was accepted.
        policy_digest: Which policy accepted it, 32 bytes.
        proof: Known to this module alone.
    """

    claims: Claims
    policy_digest: bytes
    proof: InitVar[object] = None

    def __post_init__(self, proof: object) -> None:
        """Checks who makes it.

        Raises:
            TypeError: Not `appraise`.
        """
        if proof is not _PROOF:
            raise TypeError("only appraise makes an Accepted")


@dataclass(frozen=True, slots=True)
class Rejected(_NoTruthValue):
    """The claims do not meet the policy.

    Args:
        findings: Every reason, at least one.
        policy_digest: Which policy rejected them, 32 bytes.
    """

    findings: tuple[Finding, ...]
    policy_digest: bytes


def appraise(claims: Claims, policy: AppraisalPolicy, now: datetime) -> Accepted | Rejected:
    """Compares claims with a policy.

    Args:
        claims: Of a verified quote, or of a token that was checked.
        policy: What is expected.
        now: Time of the decision, aware; advisories and collateral are judged by it.

    Returns:
        The outcome; match on its type.

    Raises:
        ConfigurationError: `now` has no time zone (``time.naive``).
    """
    if now.tzinfo is None:
        raise ConfigurationError("the time of the decision has no time zone", code="time.naive")
    moment = now.astimezone(UTC)
    findings = (
        *_measurement_findings(claims, policy.measurements),
        *_environment_findings(claims, policy),
        *_tcb_findings(claims, policy, moment),
    )
    return Rejected(findings, policy.digest) if findings else Accepted(claims, policy.digest, _PROOF)


def _environment_findings(claims: Claims, policy: AppraisalPolicy) -> Iterator[Finding]:
    if claims.tee not in policy.tees:
        yield Finding("tee.type", f"found {claims.tee}, expected {_listed(policy.tees)}")
    if claims.debug:
        yield Finding("debug.enabled", "the host can read the memory of a debug enclave")
    if claims.simulated and not policy.accept_simulated:
        yield Finding("simulated.refused", "a simulated platform protects nothing")


def _tcb_findings(claims: Claims, policy: AppraisalPolicy, now: datetime) -> Iterator[Finding]:
    if claims.tcb_status not in policy.tcb_statuses:
        yield Finding("tcb.status", f"found {claims.tcb_status}, expected {_listed(policy.tcb_statuses)}")
    if isinstance(policy.advisories, tuple):
        accepted = {advisory.advisory: advisory.until for advisory in policy.advisories}
        for advisory in claims.advisories:
            until = accepted.get(advisory)
            if until is None:
                yield Finding("tcb.advisory", f"{advisory} is open and not accepted")
            elif now.date() > until:
                yield Finding("tcb.advisory", f"{advisory} was accepted until {until.isoformat()}")
    minimum = policy.min_tcb_eval_data_number
    if isinstance(minimum, int) and claims.tcb_eval_data_number < minimum:
        yield Finding("tcb.eval_number", f"found {claims.tcb_eval_data_number}, expected at least {minimum}")
    if now >= claims.collateral_expires:
        yield Finding("collateral.expired", f"the judgement held until {timestamp(claims.collateral_expires)}")


def _measurement_findings(claims: Claims, measurements: tuple[Measurement, ...]) -> tuple[Finding, ...]:
    """Nothing if one measurement matches, else the findings of the nearest one."""
    candidates = [tuple(_differences(claims, measurement)) for measurement in measurements]
    return min(candidates, key=lambda found: (any(f.code in _IDENTITY_CODES for f in found), len(found)))


def _differences(claims: Claims, expected: Measurement) -> Iterable[Finding]:
    match expected:
        case EnclaveIdentity():
            signer = [] if expected.signer is None else _signer_comparisons(claims, expected.signer)
            return _differing([("mr_enclave", claims.mr_enclave, expected.mr_enclave, _equal), *signer])
        case SignerIdentity():
            return _differing(_signer_comparisons(claims, expected))
        case TdIdentity():
            found = claims.rtmrs or (None,) * 4
            rtmrs = zip(range(4), found, expected.rtmrs, strict=True)
            return _differing(
                [
                    ("mr_td", claims.mr_td, expected.mr_td, _equal),
                    *((f"rtmr_{i}", ours, theirs, _equal) for i, ours, theirs in rtmrs if theirs is not ANY),
                ]
            )


def _signer_comparisons(claims: Claims, expected: SignerIdentity) -> "list[_Comparison]":
    return [
        ("mr_signer", claims.mr_signer, expected.mr_signer, _equal),
        ("isv_prod_id", claims.isv_prod_id, expected.isv_prod_id, _equal),
        ("isv_svn", claims.isv_svn, expected.min_isv_svn, _at_least),
    ]


_Comparison = tuple[str, object, object, Callable[[object, object], bool]]


def _differing(comparisons: list[_Comparison]) -> Iterator[Finding]:
    for name, found, expected, holds in comparisons:
        if not holds(found, expected):
            relation = "at least " if holds is _at_least else ""
            yield Finding(f"measurement.{name}", f"found {_shown(found)}, expected {relation}{_shown(expected)}")


def _equal(found: object, expected: object) -> bool:
    return found == expected


def _at_least(found: object, expected: object) -> bool:
    return isinstance(found, int) and isinstance(expected, int) and found >= expected


def _shown(value: object) -> str:
    if value is None:
        return "none"
    return value.hex() if isinstance(value, bytes) else str(value)


def _listed(values: Iterable[str]) -> str:
    return " or ".join(sorted(values))
