"""Evidence of executors: each hands its own to the driver before it gets a task, and a receipt lists them all.

An executor speaks to the driver over Spark's traffic, which is authenticated by a secret that the broker releases to
attested processes only. What it hands over there is a quote about one executor of one job, so that whoever holds the
receipt can check later what worked on it. Carried by `strongroom.spark.EvidencePlugin`; a driver checks what a quote is
about, and leaves to the reader of the receipt whether it is genuine and acceptable: it has no collateral.
"""

import base64
import binascii
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from strongroom.analytics.receipts import EXECUTOR, MAX_EXECUTORS, Worker, executor_statement
from strongroom.errors import KeyReleaseError, StrongroomError, VerificationError
from strongroom.formats.canonical import canonical_json, parse_json_object
from strongroom.formats.evidence import parse_evidence
from strongroom.formats.members import Members
from strongroom.outcome import one_line

PLUGIN: Final = "strongroom.spark.EvidencePlugin"
PLUGINS_SETTING: Final = "spark.plugins"
JOB_SETTING: Final = "spark.strongroom.job"
JOB_SIZE: Final = 32
GIVE_EVIDENCE: Final = b"Q"
"""Operation of an executor's key server."""
TIMEOUT_S: Final = 30.0
"""How long a receipt waits for an executor that has joined and not handed in its evidence yet."""
_MAX_BYTES: Final = 32 * 1024
_CODE: Final = "receipt.executor"
_SIGNER_SIZE: Final = 32


@dataclass(frozen=True, slots=True)
class Attester:
    """Speaks for this process.

    Args:
        quote: Makes a quote about 64 bytes of report data.
        platform: "simulated", "gramine", ...
        workload: Name of the workload.
    """

    quote: Callable[[bytes], bytes] = field(repr=False)
    platform: str
    workload: str

    def worker(self, role: str, statement: bytes) -> Worker:
        """This process as a receipt lists it.

        Args:
            role: What it does.
            statement: 64 bytes that its quote is to be about.

        Raises:
            UnavailableError: The platform doesn't answer.
        """
        return Worker(role, self.platform, self.workload, base64.b64encode(self.quote(statement)).decode())

    def as_executor(self, name: str, about: bytes) -> bytes:
        """What an executor hands to its driver.

        Args:
            name: Application and number of the executor.
            about: The driver's job and signer.

        Raises:
            KeyReleaseError: `about` is not a job and a signer.
            UnavailableError: The platform doesn't answer.
        """
        if len(about) != JOB_SIZE + _SIGNER_SIZE:
            raise KeyReleaseError("this driver names no job", code=_CODE)
        statement = executor_statement(about[:JOB_SIZE], about[JOB_SIZE:], name)
        made = self.worker(EXECUTOR, statement)
        return canonical_json({"platform": made.platform, "workload": made.workload, "quote": made.quote})


class Participants:
    """The executors of a driver: who joined, who worked, and the evidence of each.

    Args:
        job: 32 random bytes that name this job.
        signer: Public key that its receipt will be signed with, 32 bytes.
        tell: Gets one line for each executor whose evidence was refused.
    """

    def __init__(self, job: bytes, signer: bytes, tell: Callable[[str], None] = lambda _: None) -> None:
        self.job, self._signer, self._tell = job, signer, tell
        self._evidence: dict[str, Worker] = {}
        self._waiting: set[str] = set()  # joined, or got a task
        self._worked: set[str] = set()
        self._changed = threading.Condition()

    def settings(self, plugins: str) -> dict[str, str]:
        """Settings of Spark by which executors know what to hand in.

        Args:
            plugins: Those of the application, separated by commas.
        """
        others = [plugin for plugin in plugins.split(",") if plugin not in {"", PLUGIN}]
        return {PLUGINS_SETTING: ",".join([*others, PLUGIN]), JOB_SETTING: (self.job + self._signer).hex()}

    @property
    def operations(self) -> Mapping[bytes, Callable[[str, bytes], bytes]]:
        """What the driver's key server does for the plugin."""
        return MappingProxyType({b"E": self.take, b"J": self._joined, b"T": self._got_task, b"L": self._left})

    def take(self, name: str, evidence: bytes) -> bytes:
        """Take an executor's evidence.

        Returns:
            Nothing.

        Raises:
            KeyReleaseError: It is malformed, or about something else than this executor of this job: the executor may
                not take part.
        """
        try:
            worker = self._checked(name, evidence)
        except StrongroomError as error:
            self._tell(one_line(f"executor {name} did not take part: {error.message}"))
            raise KeyReleaseError(error.message, code=_CODE) from None
        with self._changed:
            self._evidence[name] = worker
            self._changed.notify_all()
        return b""

    def _checked(self, name: str, evidence: bytes) -> Worker:
        members = Members(parse_json_object(evidence, max_bytes=_MAX_BYTES), what="evidence", code=_CODE)
        platform, workload = members.text("platform", max_length=100), members.text("workload", max_length=200)
        text = members.text("quote", max_length=_MAX_BYTES)
        members.finish()
        try:
            quote = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise members.refuse("quote", "is not base64") from None
        if parse_evidence(quote).report_data != executor_statement(self.job, self._signer, name):
            raise VerificationError("its evidence is about another executor or another job", code=_CODE)
        with self._changed:
            if name in self._evidence or len(self._evidence) >= MAX_EXECUTORS:
                raise VerificationError("its evidence is there already, or there are too many executors", code=_CODE)
        return Worker(EXECUTOR, platform, workload, text, name)

    def _joined(self, name: str, _: bytes) -> bytes:
        with self._changed:
            self._waiting.add(name)
        return b""

    def _got_task(self, name: str, _: bytes) -> bytes:
        with self._changed:
            self._worked.add(name)
        return b""

    def _left(self, name: str, _: bytes) -> bytes:
        """One that left before it got a task had no part in the result."""
        with self._changed:
            self._waiting.discard(name)
            self._changed.notify_all()
        return b""

    def _missing(self) -> set[str]:
        return (self._waiting | self._worked) - self._evidence.keys()

    def workers(self, timeout_s: float = TIMEOUT_S) -> tuple[Worker, ...]:
        """Every executor that took part, with its evidence; those that are gone too.

        Args:
            timeout_s: How long to wait for the evidence of one that has just joined.

        Raises:
            VerificationError: One took part and handed in no evidence.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._missing(), timeout_s)
            if missing := self._missing():
                raise VerificationError(
                    f"executor {min(missing)} took part and handed in no evidence", code="receipt.no_evidence"
                )
            return tuple(self._evidence[name] for name in sorted(self._evidence))
