"""A simulated machine: its certified keys, what it is, how it is judged, and enclaves that run on it."""

import datetime as dt
import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from strongroom.attestation.collateral import Collateral
from strongroom.errors import ConfigurationError, FormatError
from strongroom.formats.pck import PckExtension, pck_extension_of, serialize_pck_extension
from strongroom.formats.report import SgxReport, serialize_sgx_report
from strongroom.platforms.simulated.collateral import build_collateral
from strongroom.platforms.simulated.folder import read_folder, write_folder
from strongroom.platforms.simulated.pki import CLOCK_SKEW, COLLATERAL_VALIDITY, Pki, Validity
from strongroom.platforms.simulated.platform import SimulatedPlatform
from strongroom.platforms.simulated.quotes import XFRM_X87_SSE, certify_quoting_enclave, enclave_flags
from strongroom.platforms.simulated.tcb import STANDARD_TCB, TcbFacts, simulated_platform

# Stands for the owner's enclave signing key, which a simulated enclave doesn't need.
SIMULATED_MR_SIGNER: Final = hashlib.sha256(b"Strongroom simulated enclave signer").digest()


@dataclass(frozen=True, slots=True)
class SimulatedMachine:
    """A machine that looks like one with SGX to everybody who trusts its root, and to nobody else.

    Args:
        pki: Certified keys.
        attestation_key: The quoting enclave's P-256 key.
        standard_collateral: QuoteCollateralV3 JSON made at creation, always the same text.
    """

    pki: Pki
    attestation_key: ec.EllipticCurvePrivateKey
    standard_collateral: str

    @classmethod
    def build(
        cls,
        now: dt.datetime,
        *,
        change: Callable[[PckExtension], PckExtension] = lambda facts: facts,
        tcb: TcbFacts = STANDARD_TCB,
    ) -> "SimulatedMachine":
        """A machine in memory only.

        Args:
            now: Time of creation, aware.
            change: Changes what the PCK certificate says about the new machine.
            tcb: How the standard collateral judges the machine.

        Raises:
            ConfigurationError: `now` has no time zone.
            FormatError: `change` made a fact that does not fit.
        """
        facts = change(simulated_platform(secrets.token_bytes(16), secrets.token_bytes(16)))
        pki = Pki.create(now, serialize_pck_extension(facts))
        parts = build_collateral(pki, facts, tcb, Validity.of(now, COLLATERAL_VALIDITY))
        return cls(pki, ec.generate_private_key(ec.SECP256R1()), parts.to_json())

    @classmethod
    def create(cls, folder: Path, now: dt.datetime, *, tcb: TcbFacts = STANDARD_TCB) -> "SimulatedMachine":
        """A new machine kept in `folder`.

        Args:
            folder: Made if absent; must be empty.
            now: Time of creation, aware.
            tcb: How the standard collateral judges the machine.

        Raises:
            WouldOverwrite: Something is in the folder (``simulated.exists``).
            ConfigurationError: The folder can't be written, or `now` has no time zone.
        """
        machine = cls.build(now, tcb=tcb)
        write_folder(folder, machine.pki, machine.attestation_key, machine.standard_collateral)
        return machine

    @classmethod
    def load(cls, folder: Path) -> "SimulatedMachine":
        """The machine kept in `folder`.

        Raises:
            ConfigurationError: A file is missing, malformed or doesn't belong to the others (``simulated.folder``).
        """
        return cls(*read_folder(folder))

    @property
    def facts(self) -> PckExtension:
        """What the PCK certificate says about the machine."""
        return pck_extension_of(self.pki.pck.certificate)

    @property
    def created(self) -> dt.datetime:
        """Time of creation, UTC, whole seconds."""
        return self.pki.root.certificate.not_valid_before_utc + CLOCK_SKEW

    @property
    def root_der(self) -> bytes:
        """The root CA certificate, DER: what a verifier must trust by name to accept this machine."""
        return self.pki.root.der

    @property
    def validity(self) -> Validity:
        """Of the standard collateral: one year."""
        return Validity.of(self.created, COLLATERAL_VALIDITY)

    def collateral(self, *, tcb: TcbFacts | None = None, validity: Validity | None = None) -> str:
        """QuoteCollateralV3 JSON about this machine.

        Args:
            tcb: How the machine is judged.
            validity: Of the documents and lists.

        Returns:
            The standard collateral, always the same text, when nothing is given; else a newly signed one.
        """
        if tcb is None and validity is None:
            return self.standard_collateral
        return self.collateral_parts(tcb=tcb, validity=validity).to_json()

    def collateral_parts(self, *, tcb: TcbFacts | None = None, validity: Validity | None = None) -> Collateral:
        """Newly signed collateral; a test makes it wrong with `dataclasses.replace`."""
        return build_collateral(self.pki, self.facts, tcb or STANDARD_TCB, validity or self.validity)

    def platform(
        self,
        *,
        mr_enclave: bytes,
        mr_signer: bytes = SIMULATED_MR_SIGNER,
        isv_prod_id: int,
        isv_svn: int,
        debug: bool = False,
    ) -> SimulatedPlatform:
        """An enclave on this machine.

        Args:
            mr_enclave: Measurement, 32 bytes.
            mr_signer: 32 bytes.
            isv_prod_id: u16.
            isv_svn: u16.
            debug: Whether the enclave is a debug enclave.

        Raises:
            ConfigurationError: A measurement isn't 32 bytes or a number isn't a u16 (``simulated.enclave``).
        """
        body = SgxReport(
            mr_enclave=mr_enclave,
            mr_signer=mr_signer,
            isv_prod_id=isv_prod_id,
            isv_svn=isv_svn,
            report_data=bytes(64),
            flags=enclave_flags(debug=debug),
            xfrm=XFRM_X87_SSE,
            cpu_svn=self.facts.cpu_svn,
        )
        try:
            serialize_sgx_report(body)
        except FormatError as error:
            raise ConfigurationError(f"not an enclave: {error.message}", code="simulated.enclave") from error
        enclave = certify_quoting_enclave(self.pki, self.facts, self.attestation_key)
        return SimulatedPlatform(enclave, body)
