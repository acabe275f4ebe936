"""Collateral: what Intel (or the simulated platform) publishes so that quotes can be verified.

Source: Intel SGX Provisioning Certification Service API v4; the JSON form is dcap-qvl's QuoteCollateralV3. Documents
are kept as the exact text that is signed and never serialized again.
"""

import hashlib
import json
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Final, Literal

from strongroom.errors import FormatError
from strongroom.formats.canonical import parse_json_object
from strongroom.formats.members import Members
from strongroom.formats.pem import parse_certificates_pem

MAX_COLLATERAL_BYTES: Final = 2 * 1024 * 1024
MAX_DOCUMENT_BYTES: Final = 256 * 1024
MAX_CRL_BYTES: Final = 512 * 1024
MAX_CHAIN_BYTES: Final = 16 * 1024
MAX_CHAIN_CERTIFICATES: Final = 4

_CODE: Final = "collateral.malformed"
_WHAT: Final = "collateral"
_VERSION_CODE: Final = "collateral.unsupported_version"
_CHAINS: Final = ("pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain")
_CRLS: Final = ("root_ca_crl", "pck_crl")
_DOCUMENTS: Final = ("tcb_info", "qe_identity")
_SIGNATURES: Final = ("tcb_info_signature", "qe_identity_signature")


@dataclass(frozen=True, slots=True)
class TcbInfo:
    """What our own checks need of a TCB info document, version 3.

    Args:
        tee: Which kind of quotes it judges.
        fmspc: Which processors, 6 bytes.
        pce_id: Which provisioning certification enclave, 2 bytes.
        evaluation_data_number: Grows with every TCB recovery event.
        issued: Start of validity.
        next_update: End of validity.
    """

    tee: Literal["sgx", "tdx"]
    fmspc: bytes
    pce_id: bytes
    evaluation_data_number: int
    issued: datetime
    next_update: datetime


@dataclass(frozen=True, slots=True)
class QeIdentity:
    """What our own checks need of a QE identity document, version 2.

    Args:
        id: Which enclave: ``QE`` quotes for SGX, ``TD_QE`` for TDX.
        evaluation_data_number: Grows with every TCB recovery event.
        issued: Start of validity.
        next_update: End of validity.
    """

    id: str
    evaluation_data_number: int
    issued: datetime
    next_update: datetime


@dataclass(frozen=True, slots=True)
class CollateralDigests:
    """Which collateral a quote was verified with: SHA-256 of each part, 32 bytes.

    Args:
        tcb_info: Of the signed text.
        qe_identity: Of the signed text.
        root_ca_crl: Of the DER.
        pck_crl: Of the DER.
    """

    tcb_info: bytes
    qe_identity: bytes
    root_ca_crl: bytes
    pck_crl: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Collateral:
    """Bounded and well-formed collateral, nothing verified. Never take it from the party that is attested.

    Args:
        pck_crl_issuer_chain: PEM, PCK CA and root.
        root_ca_crl: DER.
        pck_crl: DER.
        tcb_info_issuer_chain: PEM, TCB signing certificate and root.
        tcb_info: Exact signed text.
        tcb_info_signature: ECDSA r and s, 64 bytes.
        qe_identity_issuer_chain: PEM, TCB signing certificate and root.
        qe_identity: Exact signed text.
        qe_identity_signature: ECDSA r and s, 64 bytes.
    """

    pck_crl_issuer_chain: str
    root_ca_crl: bytes
    pck_crl: bytes
    tcb_info_issuer_chain: str
    tcb_info: str
    tcb_info_signature: bytes
    qe_identity_issuer_chain: str
    qe_identity: str
    qe_identity_signature: bytes

    def __post_init__(self) -> None:
        """Checks every part.

        Raises:
            FormatError: A part is malformed or too long (``collateral.malformed``, ``collateral.pem``) or has a version
                that is not supported (``collateral.unsupported_version``).
        """
        for name in _CHAINS:
            chain_certificates(getattr(self, name))
        if any(len(getattr(self, name)) > MAX_CRL_BYTES for name in _CRLS):
            raise FormatError(f"a revocation list has more than {MAX_CRL_BYTES} bytes", code=_CODE)
        if any(len(getattr(self, name)) != 64 for name in _SIGNATURES):
            raise FormatError("a signature is not 64 bytes", code=_CODE)
        parse_tcb_info(self.tcb_info)
        parse_qe_identity(self.qe_identity)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Collateral":
        """Parses QuoteCollateralV3 JSON: chains and documents as text, lists and signatures in hexadecimal.

        Args:
            text: At most 2 MiB.

        Returns:
            The collateral.

        Raises:
            FormatError: Not exactly that (``json.*``, ``collateral.*``).
        """
        raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        members = Members(parse_json_object(raw, max_bytes=MAX_COLLATERAL_BYTES), what=_WHAT, code=_CODE)
        texts = {name: members.text(name, max_length=MAX_CHAIN_BYTES) for name in _CHAINS}
        texts |= {name: members.text(name, max_length=MAX_DOCUMENT_BYTES) for name in _DOCUMENTS}
        octets = {name: members.octets(name, max_bytes=MAX_CRL_BYTES) for name in _CRLS}
        octets |= {name: members.octets(name, 64) for name in _SIGNATURES}
        members.finish()
        return cls(
            pck_crl_issuer_chain=texts["pck_crl_issuer_chain"],
            root_ca_crl=octets["root_ca_crl"],
            pck_crl=octets["pck_crl"],
            tcb_info_issuer_chain=texts["tcb_info_issuer_chain"],
            tcb_info=texts["tcb_info"],
            tcb_info_signature=octets["tcb_info_signature"],
            qe_identity_issuer_chain=texts["qe_identity_issuer_chain"],
            qe_identity=texts["qe_identity"],
            qe_identity_signature=octets["qe_identity_signature"],
        )

    def to_json(self) -> str:
        """QuoteCollateralV3 JSON, the inverse of `from_json`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return json.dumps({name: part.hex() if isinstance(part, bytes) else part for name, part in values.items()})

    def digests(self) -> CollateralDigests:
        """Which collateral this is, for tokens and the audit log."""
        return CollateralDigests(
            tcb_info=hashlib.sha256(self.tcb_info.encode()).digest(),
            qe_identity=hashlib.sha256(self.qe_identity.encode()).digest(),
            root_ca_crl=hashlib.sha256(self.root_ca_crl).digest(),
            pck_crl=hashlib.sha256(self.pck_crl).digest(),
        )


def chain_certificates(pem: str) -> tuple[bytes, ...]:
    """DER certificates of an issuer chain, in its order.

    Raises:
        FormatError: Not a strict PEM chain of at most four certificates (``collateral.pem``).
    """
    raw = pem.encode("utf-8", "surrogatepass")
    return parse_certificates_pem(raw, what=_WHAT, max_certificates=MAX_CHAIN_CERTIFICATES, max_bytes=MAX_CHAIN_BYTES)


def parse_tcb_info(text: str) -> TcbInfo:
    """Reads the members we check ourselves; dcap-qvl checks signature and levels.

    Raises:
        FormatError: Malformed (``json.*``, ``collateral.malformed``) or not version 3
            (``collateral.unsupported_version``).
    """
    members = _document(text, "TCB info")
    _require_version(members, 3)
    tee = members.text("id")
    if tee not in {"SGX", "TDX"}:
        raise members.refuse("id", "is not SGX or TDX")
    return TcbInfo(
        tee="sgx" if tee == "SGX" else "tdx",
        fmspc=members.octets("fmspc", 6),
        pce_id=members.octets("pceId", 2),
        evaluation_data_number=members.number("tcbEvaluationDataNumber"),
        issued=members.moment("issueDate"),
        next_update=members.moment("nextUpdate"),
    )


def parse_qe_identity(text: str) -> QeIdentity:
    """Reads the members we check ourselves; dcap-qvl checks signature and contents.

    Raises:
        FormatError: Malformed (``json.*``, ``collateral.malformed``) or not version 2
            (``collateral.unsupported_version``).
    """
    members = _document(text, "QE identity")
    _require_version(members, 2)
    return QeIdentity(
        id=members.text("id"),
        evaluation_data_number=members.number("tcbEvaluationDataNumber"),
        issued=members.moment("issueDate"),
        next_update=members.moment("nextUpdate"),
    )


def _document(text: str, what: str) -> Members:
    # Unknown members are allowed here: Intel adds some, and the signature covers them.
    raw = text.encode("utf-8", "surrogatepass")
    return Members(parse_json_object(raw, max_bytes=MAX_DOCUMENT_BYTES), what=what, code=_CODE)


def _require_version(members: Members, version: int) -> None:
    if (found := members.number("version")) != version:
        raise FormatError(
            f"collateral: document version {found}, supported is {version}",
            code=_VERSION_CODE,
            hint="fetch collateral from the provisioning certification service, API version 4",
        )
