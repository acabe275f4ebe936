"""DCAP ECDSA quotes: SGX version 3, TDX version 4 and 5.

    v3   header 48 | SGX report 384                              | u32 length | signature data
    v4   header 48 | TD report 1.0 584                           | u32 length | signature data
    v5   header 48 | u16 body type, u32 body size | TD report    | u32 length | signature data

    signature data     signature 64 | attestation key 64 | v3: QE evidence; v4, v5: u16 6, u32 length, QE evidence
    QE evidence        QE report 384 | signature 64 | u16 n, auth data n | u16 type, u32 length, certification data

Source: Intel SGX DCAP Quote Verification Library, QuoteStructures.h and QuoteConstants.h; Intel TDX DCAP Quoting
Library API, appendix A. All integers are little-endian. A parsed quote is well formed and nothing more.
"""

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Final, Literal

from strongroom.errors import FormatError
from strongroom.formats.layout import Field, Reader, Table, little, little_bytes, read, size_of, write
from strongroom.formats.pem import parse_certificates_pem
from strongroom.formats.report import (
    SGX_REPORT_SIZE,
    TD_REPORT_10_SIZE,
    TD_REPORT_15_SIZE,
    SgxReport,
    TdReport,
    parse_sgx_report,
    parse_td_report,
    serialize_sgx_report,
    serialize_td_report,
)

MAX_QUOTE_BYTES: Final = 16 * 1024
MAX_CHAIN_CERTIFICATES: Final = 4
ECDSA_P256: Final = 2
TEE_SGX: Final = 0x00
TEE_TDX: Final = 0x81
INTEL_QE_VENDOR_ID: Final = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")

HEADER: Final[Table] = (
    Field("version", 0, 2),
    Field("attestation_key_type", 2, 2),
    Field("tee_type", 4, 4),
    Field("qe_svn", 8, 2),
    Field("pce_svn", 10, 2),
    Field("qe_vendor_id", 12, 16),
    Field("user_data", 28, 20),
)
PCK_IDENTIFIER_TAIL: Final[Table] = (Field("cpu_svn", 0, 16), Field("pce_svn", 16, 2), Field("pce_id", 18, 2))

_HEADER_SIZE: Final = size_of(HEADER)
_HEADER_NUMBERS: Final = {"version": 2, "attestation_key_type": 2, "tee_type": 4, "qe_svn": 2, "pce_svn": 2}
_BODY_TYPES: Final = {2: TD_REPORT_10_SIZE, 3: TD_REPORT_15_SIZE}
_WHAT: Final = "quote"


class CertificationKind(IntEnum):
    """What tells the verifier which PCK certificate signed the QE report."""

    PPID_PLAIN = 1
    PPID_ENCRYPTED_RSA_2048 = 2
    PPID_ENCRYPTED_RSA_3072 = 3
    PCK_LEAF = 4
    PCK_CHAIN = 5
    QE_REPORT = 6
    PLATFORM_MANIFEST = 7


_KINDS: Final = frozenset(CertificationKind) - {CertificationKind.QE_REPORT}
_PPID_SIZES: Final = {
    CertificationKind.PPID_PLAIN: 16,
    CertificationKind.PPID_ENCRYPTED_RSA_2048: 256,
    CertificationKind.PPID_ENCRYPTED_RSA_3072: 384,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteHeader:
    """The first 48 bytes of a quote.

    Args:
        version: 3, 4 or 5.
        tee_type: `TEE_SGX` or `TEE_TDX`.
        attestation_key_type: `ECDSA_P256`, the only kind in use.
        qe_svn: Security version of the quoting enclave, u16 (reserved from version 4 on).
        pce_svn: Security version of the PCE, u16 (reserved from version 4 on).
        qe_vendor_id: 16 bytes, Intel's.
        user_data: 20 bytes; the first 16 identify the quoting enclave's instance. Not for logs.
    """

    version: int
    tee_type: int
    attestation_key_type: int = ECDSA_P256
    qe_svn: int = 0
    pce_svn: int = 0
    qe_vendor_id: bytes = INTEL_QE_VENDOR_ID
    user_data: bytes = bytes(20)


@dataclass(frozen=True, slots=True)
class CertificationData:
    """Certification data of the quoting enclave's report.

    Args:
        kind: What `data` is; never `CertificationKind.QE_REPORT`, which is unwrapped by the parser.
        data: The bytes as they stand in the quote.
    """

    kind: CertificationKind
    data: bytes

    @property
    def chain_pem(self) -> bytes | None:
        """The PCK chain, leaf first, without the NUL that ends it; None for the other kinds."""
        return self.data.removesuffix(b"\0") if self.kind is CertificationKind.PCK_CHAIN else None

    @property
    def chain_der(self) -> tuple[bytes, ...]:
        """DER of the certificates of the PCK chain, leaf first; empty for the other kinds.

        Raises:
            FormatError: Not a strict PEM chain of at most four certificates (``quote.pem``).
        """
        return () if self.chain_pem is None else _parse_chain(self.chain_pem)


@dataclass(frozen=True)
class Quote:
    """A well-formed quote: who signs what, nothing verified.

    Args:
        header: Version and kind.
        body: What the CPU says about the enclave or the trust domain.
        signature: ECDSA r and s by the attestation key over `signed`, 64 bytes.
        attestation_key: P-256 x and y, 64 bytes.
        qe_report: Report of the quoting enclave, whose report_data commits to the attestation key.
        qe_report_signature: ECDSA r and s by the PCK over the QE report, 64 bytes.
        qe_auth_data: Hashed together with the attestation key; at most 65535 bytes.
        certification: How to find the PCK certificate.
        padding: Zero bytes after the signature data (drivers hand out fixed buffers).
    """

    header: QuoteHeader
    body: SgxReport | TdReport
    signature: bytes
    attestation_key: bytes
    qe_report: SgxReport
    qe_report_signature: bytes
    qe_auth_data: bytes
    certification: CertificationData
    padding: int = 0

    @property
    def version(self) -> int:
        """3, 4 or 5."""
        return self.header.version

    @property
    def tee(self) -> Literal["sgx", "tdx"]:
        """Which kind of trusted execution environment."""
        return "sgx" if isinstance(self.body, SgxReport) else "tdx"

    @cached_property
    def signed(self) -> bytes:
        """The bytes under `signature`: header and body (and body descriptor, in version 5)."""
        return serialize_signed(self.header, self.body)

    @property
    def pck_chain_pem(self) -> bytes | None:
        """The PCK chain, leaf first, when the quote carries it."""
        return self.certification.chain_pem


def parse_quote(raw: bytes) -> Quote:
    """Parses a quote; every byte is accounted for.

    Args:
        raw: The quote, at most 16 KiB, zero padding after the signature data allowed.

    Returns:
        The quote; ``serialize_quote`` gives `raw` back.

    Raises:
        FormatError: Codes ``quote.length``, ``quote.version``, ``quote.key_type``, ``quote.tee``, ``quote.vendor``,
            ``quote.body_type``, ``quote.certification``, ``quote.pem``, ``quote.truncated``, ``quote.trailing``,
            ``report.reserved``.
    """
    if len(raw) > MAX_QUOTE_BYTES:
        raise FormatError(f"quote: {len(raw)} bytes, at most {MAX_QUOTE_BYTES}", code="quote.length")
    reader = Reader(raw, what=_WHAT)
    header = _parse_header(reader.take(_HEADER_SIZE, "header"))
    body = _parse_body(reader, header)
    size = reader.number(4, "signature data length")
    data = Reader(reader.take(size, "signature data"), what=_WHAT, start=reader.offset - size)
    padding = reader.rest()
    if any(padding):
        raise FormatError("quote: bytes after the signature data are not zero", code="quote.trailing")
    signature = data.take(64, "signature")
    attestation_key = data.take(64, "attestation key")
    if header.version != 3:
        data = _unwrap_qe_evidence(data)
    qe_report = parse_sgx_report(data.take(SGX_REPORT_SIZE, "QE report"))
    qe_report_signature = data.take(64, "QE report signature")
    auth_data = data.take(data.number(2, "auth data length"), "auth data")
    certification = _parse_certification(data)
    data.finish()
    return Quote(
        header, body, signature, attestation_key, qe_report, qe_report_signature, auth_data, certification, len(padding)
    )


def serialize_quote(quote: Quote) -> bytes:
    """The quote as bytes, the inverse of `parse_quote`.

    Raises:
        FormatError: A part has the wrong size (``quote.field``, ``report.field``, ``format.integer``).
    """
    sizes = ((quote.signature, 64), (quote.attestation_key, 64), (quote.qe_report_signature, 64))
    if any(len(part) != size for part, size in sizes):
        raise FormatError("quote: signature or key is not 64 bytes", code="quote.field")
    evidence = b"".join(
        (
            serialize_sgx_report(quote.qe_report),
            quote.qe_report_signature,
            little_bytes(len(quote.qe_auth_data), 2, what="auth data length"),
            quote.qe_auth_data,
            _tagged(quote.certification.kind, quote.certification.data),
        )
    )
    if quote.version != 3:
        evidence = _tagged(CertificationKind.QE_REPORT, evidence)
    data = quote.signature + quote.attestation_key + evidence
    return quote.signed + little_bytes(len(data), 4, what="signature data length") + data + bytes(quote.padding)


def serialize_signed(header: QuoteHeader, body: SgxReport | TdReport) -> bytes:
    """The bytes that the attestation key signs: 432 (v3), 632 (v4), 638 or 702 (v5).

    Raises:
        FormatError: A part has the wrong size (``header.field``, ``report.field``, ``format.integer``), or the body
            does not belong to the version (``quote.body_type``).
    """
    values = {field.name: getattr(header, field.name) for field in HEADER}
    for name, size in _HEADER_NUMBERS.items():
        values[name] = little_bytes(values[name], size, what=name)
    prefix = write(HEADER, values, what="header")
    if isinstance(body, SgxReport):
        if header.version != 3:
            raise FormatError("quote: an SGX report needs version 3", code="quote.body_type")
        return prefix + serialize_sgx_report(body)
    raw = serialize_td_report(body)
    if header.version == 4 and not body.version_15:
        return prefix + raw
    if header.version != 5:
        raise FormatError(f"quote: this TD report does not fit version {header.version}", code="quote.body_type")
    kind = 3 if body.version_15 else 2
    return prefix + kind.to_bytes(2, "little") + len(raw).to_bytes(4, "little") + raw


def _parse_header(raw: bytes) -> QuoteHeader:
    values = read(HEADER, raw, what="header")
    header = QuoteHeader(
        version=little(values["version"]),
        attestation_key_type=little(values["attestation_key_type"]),
        tee_type=little(values["tee_type"]),
        qe_svn=little(values["qe_svn"]),
        pce_svn=little(values["pce_svn"]),
        qe_vendor_id=values["qe_vendor_id"],
        user_data=values["user_data"],
    )
    if header.version not in {3, 4, 5}:
        raise FormatError(f"quote: version {header.version} at offset 0 is not 3, 4 or 5", code="quote.version")
    if header.attestation_key_type != ECDSA_P256:
        raise FormatError(
            f"quote: attestation key type {header.attestation_key_type} at offset 2 is not ECDSA P-256",
            code="quote.key_type",
        )
    if header.tee_type != (TEE_SGX if header.version == 3 else TEE_TDX):
        raise FormatError(
            f"quote: TEE type {header.tee_type:#x} at offset 4 does not belong to version {header.version}",
            code="quote.tee",
        )
    if header.qe_vendor_id != INTEL_QE_VENDOR_ID:
        raise FormatError("quote: quoting enclave's vendor id at offset 12 is not Intel's", code="quote.vendor")
    return header


def _parse_body(reader: Reader, header: QuoteHeader) -> SgxReport | TdReport:
    if header.version == 3:
        return parse_sgx_report(reader.take(SGX_REPORT_SIZE, "report body"))
    if header.version == 4:
        return parse_td_report(reader.take(TD_REPORT_10_SIZE, "report body"))
    kind = reader.number(2, "body type")
    size = reader.number(4, "body size")
    if _BODY_TYPES.get(kind) != size:
        raise FormatError(
            f"quote: body type {kind} with {size} bytes at offset {_HEADER_SIZE} is not supported",
            code="quote.body_type",
        )
    return parse_td_report(reader.take(size, "report body"))


def _unwrap_qe_evidence(data: Reader) -> Reader:
    kind = data.number(2, "certification data type")
    if kind != CertificationKind.QE_REPORT:
        raise FormatError(
            f"quote: certification data type {kind} before offset {data.offset}, expected 6", code="quote.certification"
        )
    size = data.number(4, "certification data length")
    inner = Reader(data.take(size, "certification data"), what=_WHAT, start=data.offset - size)
    data.finish()
    return inner


def _parse_certification(data: Reader) -> CertificationData:
    number = data.number(2, "certification data type")
    if number not in _KINDS:
        raise FormatError(
            f"quote: certification data type {number} before offset {data.offset} is not 1 to 5 or 7",
            code="quote.certification",
        )
    kind = CertificationKind(number)
    size = data.number(4, "certification data length")
    certification = CertificationData(kind, data.take(size, "certification data"))
    if kind in _PPID_SIZES and size != _PPID_SIZES[kind] + size_of(PCK_IDENTIFIER_TAIL):
        raise FormatError(f"quote: {size} bytes of PPID certification data", code="quote.certification")
    if certification.chain_pem is not None:
        _parse_chain(certification.chain_pem)
    return certification


def _parse_chain(pem: bytes) -> tuple[bytes, ...]:
    return parse_certificates_pem(pem, what=_WHAT, max_certificates=MAX_CHAIN_CERTIFICATES, max_bytes=MAX_QUOTE_BYTES)


def _tagged(kind: int, data: bytes) -> bytes:
    return little_bytes(kind, 2, what="type") + little_bytes(len(data), 4, what="length") + data
