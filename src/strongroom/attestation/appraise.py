"""Acceptable? Compares claims with a policy and reports every finding, not just the first."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import InitVar, dataclass
from datetime import UTC, datetime
from typing import Final, NoReturn

from strongroom.attestation.claims import Claims
from strongroom.attestation.measurements import (
    ANY,
    EnclaveIdentity,
    Measurement,
    SignerIdentity,
    SnpIdentity,
    TdIdentity,
    VtpmIdentity,
    tee_of,
)
from strongroom.attestation.policy import AppraisalPolicy
from strongroom.errors import ConfigurationError, Finding
from strongroom.formats.members import timestamp
from strongroom.formats.tpm_quote import PCR_COUNT

_PROOF: Final = object()
# A measurement that differs in one of these is a stranger; one that differs only in the others is a near miss.
_IDENTITY_CODES: Final = frozenset(
    {"measurement.mr_enclave", "measurement.mr_signer", "measurement.mr_td", "measurement.launch", "measurement.tee"}
)


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
    if claims.snp is None:
        yield from _intel_findings(claims, policy, now)
    elif policy.snp is None:
        yield Finding("snp.unset", "the policy expects nothing of SEV-SNP platforms")
    else:
        yield from policy.snp.findings(claims.snp)
    if now >= claims.collateral_expires:
        yield Finding("collateral.expired", f"the judgement held until {timestamp(claims.collateral_expires)}")


def _intel_findings(claims: Claims, policy: AppraisalPolicy, now: datetime) -> Iterator[Finding]:
    statuses = policy.tcb_statuses or frozenset()
    if claims.tcb_status not in statuses:
        yield Finding("tcb.status", f"found {claims.tcb_status}, expected {_listed(statuses) or 'none'}")
    if isinstance(policy.advisories, tuple):
        accepted = {advisory.advisory: advisory.until for advisory in policy.advisories}
        for advisory in claims.advisories:
            until = accepted.get(advisory)
            if until is None:
                yield Finding("tcb.advisory", f"{advisory} is open and not accepted")
            elif now.date() > until:
                yield Finding("tcb.advisory", f"{advisory} was accepted until {until.isoformat()}")
    minimum = policy.min_tcb_eval_data_number
    if isinstance(minimum, int) and not _at_least(claims.tcb_eval_data_number, minimum):
        yield Finding("tcb.eval_number", f"found {claims.tcb_eval_data_number}, expected at least {minimum}")


def _measurement_findings(claims: Claims, measurements: tuple[Measurement, ...]) -> tuple[Finding, ...]:
    """Nothing if one measurement matches, else the findings of the nearest one."""
    candidates = [tuple(_differences(claims, expected)) for expected in measurements]
    return min(candidates, key=lambda found: (any(f.code in _IDENTITY_CODES for f in found), len(found)))


def _differences(claims: Claims, expected: Measurement) -> Iterable[Finding]:
    if claims.tee != tee_of(expected):
        # The same launch measurement is one guest's in one TEE, and in another everybody's paravisor's.
        return [Finding("measurement.tee", f"found {claims.tee}, expected {tee_of(expected)}")]
    match expected:
        case EnclaveIdentity():
            signer = [] if expected.signer is None else _signer_comparisons(claims, expected.signer)
            return _differing([("mr_enclave", claims.mr_enclave, expected.mr_enclave, _equal), *signer])
        case SignerIdentity():
            return _differing(_signer_comparisons(claims, expected))
        case TdIdentity() | SnpIdentity():
            return _differing(_guest_comparisons(claims, expected))
        case VtpmIdentity():
            found = claims.pcrs or (None,) * PCR_COUNT
            pcrs: list[_Comparison] = [
                (f"pcr_{index}", found[index], value, _equal) for index, value in sorted(expected.pcrs.items())
            ]
            return _differing([*_guest_comparisons(claims, expected.hardware), *pcrs])


def _guest_comparisons(claims: Claims, expected: TdIdentity | SnpIdentity) -> "list[_Comparison]":
    comparisons: list[_Comparison]
    if isinstance(expected, TdIdentity):
        rtmrs = zip(claims.rtmrs or (None,) * 4, expected.rtmrs, strict=True)
        comparisons = [
            ("mr_td", claims.mr_td, expected.mr_td, _equal),
            *((f"rtmr_{i}", ours, theirs, _equal) for i, (ours, theirs) in enumerate(rtmrs)),
        ]
    else:
        snp = claims.snp
        comparisons = [
            ("launch", snp and snp.measurement, expected.measurement, _equal),
            ("host_data", snp and snp.host_data, expected.host_data, _equal),
            ("id_key_digest", snp and snp.id_key_digest, expected.id_key_digest, _equal),
        ]
    return [comparison for comparison in comparisons if comparison[2] is not ANY]


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
