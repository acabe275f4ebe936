"""What a Spark process gets by attesting: master keys, the secret of Spark's own traffic, and the job it may do.

Every driver and executor does this by itself, in the room it runs in. Of the keys that its workload names, three
aliases have a meaning here: ``spark`` (the secret that drivers and executors recognise each other by), ``job`` (which
application, with which settings) and ``signer``; the others are master keys of tables.
"""

import hashlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import strongroom
from strongroom.analytics.datakeys import KEY_LIFETIME_S
from strongroom.analytics.kms import LocalKms
from strongroom.analytics.spark.evidence import Attester
from strongroom.errors import ConfigurationError, UnavailableError
from strongroom.workload import load_workload

TRAFFIC_ALIAS: Final = "spark"
JOB_ALIAS: Final = "job"
SIGNER_ALIAS: Final = "signer"
WORKLOAD_VARIABLE: Final = "STRONGROOM_WORKLOAD"
ATTEMPTS: Final = 4
FIRST_PAUSE_S: Final = 0.5
_OTHER_USES: Final = frozenset({TRAFFIC_ALIAS, JOB_ALIAS, SIGNER_ALIAS})
_MIN_SECRET_BYTES: Final = 16
_PURPOSE: Final = b"strongroom spark traffic 1\0"


@dataclass(frozen=True, slots=True)
class Attested:
    """What the broker released to this process.

    Args:
        masters: Name of each master key and its bytes.
        traffic: Secret of Spark's own traffic, 64 hexadecimal digits; None if the workload names none.
        job: The job, as its owner stored it; None if the workload names none.
        signer: Secret that makes the signer; None if the workload names none.
        attester: Makes this process's evidence.
    """

    masters: Mapping[str, bytes] = field(repr=False)
    traffic: str | None = field(repr=False)
    job: bytes | None
    signer: bytes | None = field(repr=False)
    attester: Attester


def in_room() -> bool:
    """Whether this process was started as a workload."""
    return WORKLOAD_VARIABLE in os.environ


def attest() -> Attested:
    """Enter the room of this process and take what its workload names.

    Raises:
        PolicyRejected: The broker has no grant that accepts this code on this platform.
        KeyReleaseError: The broker refused and did not say more.
        UnavailableError: The broker or the platform does not answer.
        VerificationError: An answer was not made for this session.
        FormatError: An answer does not follow the protocol.
        ConfigurationError: The environment or the workload file is wrong, or the secret is too short.
    """
    with strongroom.enter() as room:
        workload = load_workload(Path(os.environ[WORKLOAD_VARIABLE]))
        keys = {alias: room.key(alias) for alias in workload.keys}
        masters = {path: keys[alias] for alias, path in workload.keys.items() if alias not in _OTHER_USES}
        return Attested(
            masters,
            _traffic_secret(keys[TRAFFIC_ALIAS]) if TRAFFIC_ALIAS in keys else None,
            keys.get(JOB_ALIAS),
            keys.get(SIGNER_ALIAS),
            Attester(room.quote, room.identity.platform, room.identity.workload),
        )


def _traffic_secret(key: bytes) -> str:
    """The secret as Spark wants it, text; derived, so that the broker's key may be used for something else too.

    Raises:
        ConfigurationError: The key is shorter than 16 bytes.
    """
    if len(key) < _MIN_SECRET_BYTES:
        raise ConfigurationError(
            f"the key with the alias {TRAFFIC_ALIAS!r} is shorter than {_MIN_SECRET_BYTES} bytes", code="spark.secret"
        )
    return hashlib.sha256(_PURPOSE + key).hexdigest()


class AttestedKms:
    """Master keys of this room; after their lifetime the room is entered anew, so that a revocation counts.

    Args:
        attest: Attests and returns what the broker released.
        first: What it released already.
        lifetime_s: How long that is used.
        clock: Monotonic seconds.
        pause: Waits between attempts, seconds.
    """

    def __init__(
        self,
        attest: Callable[[], Attested],
        first: Attested,
        *,
        lifetime_s: float = KEY_LIFETIME_S,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._attest, self._lifetime_s, self._clock, self._pause = attest, lifetime_s, clock, pause
        self._lock = threading.Lock()
        self._kms: LocalKms | None = LocalKms.holding(first.masters)
        self._until = clock() + lifetime_s

    def wrap(self, key_name: str, secret: bytes) -> bytes:
        """Encrypt a secret under a master key.

        Raises:
            KeyReleaseError: There is no right to this key, or no longer.
            PolicyRejected: This process is no longer accepted.
            UnavailableError: The broker doesn't answer, after several attempts.
        """
        return self._current().wrap(key_name, secret)

    def unwrap(self, key_name: str, wrapped: bytes) -> bytes:
        """Decrypt what `wrap` returned for the same key.

        Raises:
            KeyReleaseError: There is no right to this key, or no longer.
            PolicyRejected: This process is no longer accepted.
            WrongKey: Wrapped under another key of this name, or altered.
            UnavailableError: The broker doesn't answer, after several attempts.
        """
        return self._current().unwrap(key_name, wrapped)

    def _current(self) -> LocalKms:
        with self._lock:
            if self._kms is None or self._clock() >= self._until:
                self._kms = None  # what can't be renewed is not used any longer
                self._kms = LocalKms.holding(self._renewed().masters)
                self._until = self._clock() + self._lifetime_s
            return self._kms

    def _renewed(self) -> Attested:
        for attempt in range(ATTEMPTS - 1):
            try:
                return self._attest()
            except UnavailableError:
                self._pause(FIRST_PAUSE_S * 2**attempt)
        return self._attest()
