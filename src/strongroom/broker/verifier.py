"""Verifies quotes in processes of their own.

The verification library holds the interpreter lock while it works, so threads would not help; a process that dies or
hangs on a hostile quote takes nothing else with it.
"""

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from strongroom.attestation.amd_collateral import AmdCollateral
from strongroom.attestation.claims import Claims
from strongroom.attestation.collateral import Collateral
from strongroom.attestation.roots import AMD_ROOT, INTEL_ROOT, AmdRoot, TrustRoot
from strongroom.attestation.verify import verify_quote
from strongroom.broker.amd_collateral import find_amd_collateral
from strongroom.broker.collateral import find_collateral
from strongroom.errors import UnavailableError, VerificationError
from strongroom.formats.certificate import parse_certificate
from strongroom.formats.endorsement_key import endorsement_key_of
from strongroom.formats.evidence import SnpEvidence, VtpmEvidence, parse_evidence
from strongroom.formats.pck import pck_certificate_of, pck_extension_of

_PRELOAD: Final = ["strongroom.broker.verifier"]


class Verifier(Protocol):
    """Decides whether a quote is genuine."""

    def verify(self, quote: bytes, now: datetime) -> Claims:
        """What a genuine quote says; raises for any other."""
        ...


@dataclass(frozen=True, slots=True)
class Trust:
    """What quotes are verified with.

    Args:
        roots: Certificates in which chains of Intel's form may end.
        collateral: The broker's collateral folder.
        amd_roots: Root keys in which chains of AMD's form may end.
    """

    roots: tuple[TrustRoot, ...]
    collateral: Path
    amd_roots: tuple[AmdRoot, ...] = (AMD_ROOT,)


def trust(collateral: Path, simulated_root: Path | None) -> Trust:
    """Intel's root and AMD's, and a simulated one of Intel's form if it is named.

    Args:
        collateral: The broker's collateral folder.
        simulated_root: DER file; None: simulated platforms are not believed.

    Returns:
        What to verify with.

    Raises:
        ConfigurationError: Not a root certificate.
        UnavailableError: The file can't be read.
    """
    if simulated_root is None:
        return Trust((INTEL_ROOT,), collateral)
    try:
        der = simulated_root.read_bytes()
    except OSError as error:
        raise UnavailableError(
            f"cannot read {simulated_root}: {error.strerror}", code="broker.simulated_root"
        ) from None
    return Trust((INTEL_ROOT, TrustRoot("simulated", der)), collateral)


def verify_with(trusted: Trust, quote: bytes, now: datetime) -> Claims:
    """Verify one quote, in this process.

    Args:
        trusted: Roots and collateral.
        quote: Evidence from a stranger.
        now: Aware time.

    Returns:
        What the quote says.

    Raises:
        FormatError: Not evidence, or a quote without PCK chain.
        VerificationError: Not genuine under any trusted root, its TCB is revoked or unknown, or there is no collateral
            to judge this kind of platform.
        UnavailableError: The collateral can't be read.
    """
    refusal: VerificationError | None = None
    for root, collateral in _believed(trusted, quote):
        try:
            return verify_quote(quote, collateral, root, now).claims
        except VerificationError as error:
            refusal = error
    raise refusal or VerificationError("no collateral for this kind of platform", code="collateral.none")


def _believed(trusted: Trust, raw: bytes) -> Iterator[tuple[TrustRoot | AmdRoot, Collateral | AmdCollateral]]:
    """Roots and the collateral there is under each; what the unverified evidence says only chooses files."""
    evidence = parse_evidence(raw)
    hardware = evidence.hardware if isinstance(evidence, VtpmEvidence) else evidence
    if isinstance(hardware, SnpEvidence):
        key = endorsement_key_of(parse_certificate(hardware.endorsement_key, code="endorsement_key.malformed"))
        for amd_root in trusted.amd_roots:
            collateral = find_amd_collateral(trusted.collateral, amd_root, key.kind, key.product)
            if collateral is not None:
                yield amd_root, collateral
        return
    fmspc = pck_extension_of(pck_certificate_of(hardware.quote)).fmspc
    for root in trusted.roots:
        text = find_collateral(trusted.collateral, root.kind, hardware.quote.tee, fmspc)
        if text is not None:
            yield root, Collateral.from_json(text)


class VerifierPool:
    """Runs `verify_with` in a bounded number of processes. Use it as a context manager or call `close`.

    Args:
        trusted: Roots and collateral.
        processes: How many.
        timeout_s: How long one verification may take, waiting included.
        work: What the processes do; tests replace it.
    """

    def __init__(
        self,
        trusted: Trust,
        *,
        processes: int,
        timeout_s: float,
        work: Callable[[Trust, bytes, datetime], Claims] = verify_with,
    ) -> None:
        self._trusted = trusted
        self._processes = processes
        self._timeout_s = timeout_s
        self._work = work
        self._lock = threading.Lock()
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(_PRELOAD)
        self._pool = self._start()

    def _start(self) -> futures.ProcessPoolExecutor:
        return futures.ProcessPoolExecutor(self._processes, self._context, initializer=_begin)

    def warm_up(self) -> None:
        """Start the processes now instead of at the first quote.

        Raises:
            UnavailableError: They do not start.
        """
        try:
            for future in [self._pool.submit(_ready) for _ in range(self._processes)]:
                future.result(timeout=60)
        except (futures.BrokenExecutor, TimeoutError):
            raise UnavailableError("the verifier does not start", code="verifier.start") from None

    def verify(self, quote: bytes, now: datetime) -> Claims:
        """Verify one quote.

        Args:
            quote: Evidence from a stranger.
            now: Aware time.

        Returns:
            What the quote says.

        Raises:
            FormatError: Not a quote with a PCK chain.
            VerificationError: Not genuine.
            UnavailableError: The verifying process died or took too long.
        """
        pool = self._pool
        try:
            future = pool.submit(self._work, self._trusted, quote, now)
        except RuntimeError:  # broken, or another thread is replacing it
            self._replace(pool)
            raise UnavailableError("a verifying process died", code="verifier.died") from None
        try:
            return future.result(timeout=self._timeout_s)
        except (futures.BrokenExecutor, futures.CancelledError):
            self._replace(pool)
            raise UnavailableError("a verifying process died", code="verifier.died") from None
        except TimeoutError:
            self._replace(pool)
            raise UnavailableError("a verification took too long", code="verifier.timeout") from None

    def _replace(self, broken: futures.ProcessPoolExecutor) -> None:
        with self._lock:
            if self._pool is not broken:
                return
            self._pool = self._start()
        _stop(broken)

    def close(self) -> None:
        """Stop the processes."""
        _stop(self._pool)


def _stop(pool: futures.ProcessPoolExecutor) -> None:
    # A process that hangs does not read the request to stop.
    processes = list((pool._processes or {}).values())  # noqa: SLF001 -- no public way before Python 3.14
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.kill()


def _begin() -> None:
    """What a verifying process does first."""
    # Ctrl-C goes to every process of the terminal; the broker itself decides when we end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_broker, daemon=True).start()


def _end_with_the_broker() -> None:
    """A broker that was killed can't stop us; without this we would wait for work for ever."""
    broker = multiprocessing.parent_process()
    if broker is not None:
        multiprocessing.connection.wait([broker.sentinel])
    os._exit(1)


def _ready() -> None:
    """Importing this module was the work."""
