"""Mints SGX quotes, version 3: the simulated quoting enclave and its certification by the PCK.

Source: Intel SGX DCAP Quote Verification Library, QuoteStructures.h; "A Quoting Enclave's report data is SHA-256 of the
attestation key and the authentication data, then 32 zeros".
"""

import hashlib
from dataclasses import dataclass, replace
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from strongroom.formats.pck import PckExtension
from strongroom.formats.quote import (
    CertificationData,
    CertificationKind,
    Quote,
    QuoteHeader,
    serialize_quote,
    serialize_signed,
)
from strongroom.formats.report import (
    SGX_FLAG_DEBUG,
    SGX_FLAG_INIT,
    SGX_FLAG_MODE64,
    SGX_FLAG_PROVISION_KEY,
    SgxReport,
    serialize_sgx_report,
)
from strongroom.platforms.simulated.pki import Pki, chain_pem
from strongroom.platforms.simulated.tcb import (
    QE_ISV_PROD_ID,
    QE_ISV_SVN,
    QE_MR_ENCLAVE,
    QE_MR_SIGNER,
    sign_raw,
)

AUTH_DATA: Final = bytes(range(32))  # dcap-qvl wants exactly 32 bytes; any will do
USER_DATA: Final = b"SIMULATED QE".ljust(20, b"\0")
XFRM_X87_SSE: Final = 3


@dataclass(frozen=True, slots=True)
class QuotingEnclave:
    """A quoting enclave whose attestation key the PCK has certified.

    Args:
        attestation_key: P-256 key that signs the quotes.
        template: A quote with everything that doesn't change from quote to quote; its body and signature are replaced.
    """

    attestation_key: ec.EllipticCurvePrivateKey
    template: Quote

    def quote(self, body: SgxReport) -> bytes:
        """A signed quote about `body`.

        Raises:
            FormatError: A field of `body` has the wrong size or range.
        """
        signature = sign_raw(serialize_signed(self.template.header, body), self.attestation_key)
        return serialize_quote(replace(self.template, body=body, signature=signature))


def certify_quoting_enclave(
    pki: Pki,
    platform: PckExtension,
    attestation_key: ec.EllipticCurvePrivateKey,
    *,
    qe_report: SgxReport | None = None,
    auth_data: bytes = AUTH_DATA,
) -> QuotingEnclave:
    """Certifies an attestation key by the PCK.

    Args:
        pki: The machine's certified keys.
        platform: What the machine is.
        attestation_key: P-256.
        qe_report: The quoting enclave's report to certify instead of the right one.
        auth_data: The quoting enclave's authentication data.
    """
    public = public_key_bytes(attestation_key)
    report = qe_report or quoting_enclave_report(platform, attestation_key, auth_data=auth_data)
    chain = chain_pem(pki.pck, pki.pck_ca, pki.root).encode() + b"\0"
    template = Quote(
        header=QuoteHeader(version=3, tee_type=0, qe_svn=QE_ISV_SVN, pce_svn=platform.pce_svn, user_data=USER_DATA),
        body=report,
        signature=bytes(64),
        attestation_key=public,
        qe_report=report,
        qe_report_signature=sign_raw(serialize_sgx_report(report), pki.pck.private_key),
        qe_auth_data=auth_data,
        certification=CertificationData(CertificationKind.PCK_CHAIN, chain),
    )
    return QuotingEnclave(attestation_key, template)


def quoting_enclave_report(
    platform: PckExtension, attestation_key: ec.EllipticCurvePrivateKey, *, auth_data: bytes = AUTH_DATA
) -> SgxReport:
    """The quoting enclave's own report, which commits to the attestation key."""
    digest = hashlib.sha256(public_key_bytes(attestation_key) + auth_data).digest()
    return SgxReport(
        mr_enclave=QE_MR_ENCLAVE,
        mr_signer=QE_MR_SIGNER,
        isv_prod_id=QE_ISV_PROD_ID,
        isv_svn=QE_ISV_SVN,
        report_data=digest + bytes(32),
        flags=SGX_FLAG_INIT | SGX_FLAG_MODE64 | SGX_FLAG_PROVISION_KEY,
        xfrm=XFRM_X87_SSE,
        cpu_svn=platform.cpu_svn,
    )


def enclave_flags(*, debug: bool) -> int:
    """Attribute flags of a running 64-bit enclave."""
    return SGX_FLAG_INIT | SGX_FLAG_MODE64 | (SGX_FLAG_DEBUG if debug else 0)


def public_key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Both coordinates, x then y, of the public key, 32 bytes each, big-endian."""
    numbers = key.public_key().public_numbers()
    return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
