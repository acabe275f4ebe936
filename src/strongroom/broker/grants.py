"""Grants: which keys a workload may have, and which policy its evidence must meet.

A grant counts from the moment it is stored to the moment it is revoked, also for tokens that are already out: the
decision is made again at every release. Where grants are kept: `strongroom.broker.grant_store`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from strongroom.attestation.appraise import Accepted, Rejected, appraise
from strongroom.attestation.claims import Claims
from strongroom.attestation.policy import AppraisalPolicy
from strongroom.errors import Finding, FormatError
from strongroom.formats.canonical import JsonValue
from strongroom.formats.kbs import ResourcePath
from strongroom.formats.members import Members, timestamp

MAX_KEYS: Final = 256
OPERATIONS: Final = frozenset({"release"})
GRANT_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What one workload may have.

    Args:
        name: The workload's name: 1 to 63 characters out of ``a-z 0-9 -``, no ``-`` at an end.
        policy: What its evidence must meet.
        keys: Exact names of the keys; no patterns.
        operations: What may be done with them; only ``release`` exists.
        not_after: End of the grant, whole seconds, UTC; None: until revoked.
        provision: The one of `keys` that is sent to a client of Gramine's secret provisioning, which names none; None:
            this grant is not for such clients.
    """

    name: str
    policy: AppraisalPolicy
    keys: tuple[ResourcePath, ...]
    operations: frozenset[str] = OPERATIONS
    not_after: datetime | None = None
    provision: ResourcePath | None = None

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            FormatError: One is not as described above.
        """
        if not GRANT_NAME.fullmatch(self.name):
            raise FormatError("not a grant name", code="grant.malformed", hint="letters a-z, digits and '-'")
        if not self.keys or len(self.keys) > MAX_KEYS or len(set(self.keys)) != len(self.keys):
            raise FormatError(f"a grant names 1 to {MAX_KEYS} different keys", code="grant.malformed")
        if not self.operations or not self.operations <= OPERATIONS:
            raise FormatError("unknown operation in a grant", code="grant.malformed")
        if self.not_after is not None and self.not_after.utcoffset() is None:
            raise FormatError("the end of a grant has no time zone", code="grant.malformed")
        if self.provision is not None and self.provision not in self.keys:
            raise FormatError("a grant provisions a key it does not name", code="grant.malformed")

    def to_json(self) -> dict[str, JsonValue]:
        """The grant as JSON."""
        values: dict[str, JsonValue] = {
            "name": self.name,
            "policy": self.policy.to_json(),
            "keys": [str(path) for path in self.keys],
            "operations": sorted(self.operations),
            "not_after": timestamp(self.not_after) if self.not_after else None,
        }
        return values | ({"provision": str(self.provision)} if self.provision else {})

    @classmethod
    def from_json(cls, value: object) -> "Grant":
        """Read the JSON form strictly.

        Raises:
            FormatError: A member is missing, unknown or malformed.
        """
        members = Members(value, what="grant", code="grant.malformed")
        grant = cls(
            name=members.text("name"),
            policy=AppraisalPolicy.from_json(members.value("policy")),
            keys=tuple(ResourcePath.parse(key) for key in members.texts("keys", max_items=MAX_KEYS, max_length=386)),
            operations=frozenset(members.texts("operations", max_items=8, max_length=32)),
            not_after=_end(members),
            provision=ResourcePath.parse(members.text("provision")) if "provision" in members else None,
        )
        members.finish()
        return grant

    def findings(self, claims: Claims, now: datetime) -> tuple[Finding, ...]:
        """Why this grant does not accept the evidence; empty if it does."""
        ended: tuple[Finding, ...] = ()
        if self.not_after is not None and now >= self.not_after:
            ended = (Finding("grant.expired", f"ended {timestamp(self.not_after)}"),)
        outcome = appraise(claims, self.policy, now)
        match outcome:
            case Accepted():
                return ended
            case Rejected():
                return ended + outcome.findings


def _end(members: Members) -> datetime | None:
    value = members.value("not_after")
    return (
        None
        if value is None
        else Members({"not_after": value}, what="grant", code="grant.malformed").moment("not_after")
    )


@dataclass(frozen=True, slots=True)
class Match:
    """Which grants accept the evidence.

    Args:
        accepted: Grants that accept it (and name the key, if one was asked for).
        closest: Name of the grant that came closest, when none accepts.
        findings: Why that one does not accept it.
    """

    accepted: tuple[Grant, ...]
    closest: str | None = None
    findings: tuple[Finding, ...] = ()


def match_grants(
    candidates: Sequence[Grant], claims: Claims, now: datetime, *, path: ResourcePath | None, hint: str | None
) -> Match:
    """Decide which grants accept evidence.

    Args:
        candidates: All grants.
        claims: What the evidence proved.
        now: Aware time.
        path: The key that is asked for; None at attestation.
        hint: Grant the client says it is meant for: the one whose findings are told; decides nothing.

    Returns:
        The accepting grants, or the findings of the closest grant.
    """
    judged = [(grant, _judge(grant, claims, now, path)) for grant in candidates]
    accepted = tuple(grant for grant, findings in judged if not findings)
    if accepted:
        return Match(accepted)
    if not judged:
        return Match((), None, (Finding("grant.none", "there is no grant"),))
    closest, findings = min(judged, key=lambda pair: (pair[0].name != hint, len(pair[1]), pair[0].name))
    return Match((), closest.name, findings)


def _judge(grant: Grant, claims: Claims, now: datetime, path: ResourcePath | None) -> tuple[Finding, ...]:
    findings = grant.findings(claims, now)
    if path is not None and path not in grant.keys:
        findings += (Finding("grant.none", f"{grant.name} does not name {path}"),)
    return findings
