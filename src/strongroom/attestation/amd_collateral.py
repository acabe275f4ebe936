"""What AMD publishes so that SEV-SNP reports can be verified: issuers of VCEKs or VLEKs, and what was revoked.

Source: AMD Versioned Chip Endorsement Key Certificate and KDS Interface Specification (publication 57230): the answers
to ``/vcek/v1/{product}/cert_chain`` and ``/crl``, and the same under ``/vlek``. The JSON form is ours.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Final

from strongroom.attestation.collateral import MAX_CHAIN_BYTES, MAX_COLLATERAL_BYTES, MAX_CRL_BYTES, chain_certificates
from strongroom.errors import FormatError
from strongroom.formats.canonical import parse_json_object
from strongroom.formats.members import Members
from strongroom.formats.snp_report import SigningKey, SnpProduct

_CODE: Final = "collateral.malformed"
_WHAT: Final = "AMD collateral"
_PRODUCTS: Final[dict[str, SnpProduct]] = {"milan": "milan", "genoa": "genoa", "turin": "turin"}
_SIGNING_KEYS: Final[dict[str, SigningKey]] = {"vcek": "vcek", "vlek": "vlek"}


@dataclass(frozen=True, slots=True)
class AmdDigests:
    """Which collateral a report was verified with: SHA-256 of each part, 32 bytes.

    Args:
        issuer_chain: Of the PEM text.
        crl: Of the DER.
    """

    issuer_chain: bytes
    crl: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AmdCollateral:
    """Bounded and well-formed collateral, nothing verified. Never take it from the party that is attested.

    Args:
        product: Which processors.
        signing_key: Whether for VCEKs (chips) or VLEKs (clouds).
        issuer_chain: PEM, ASK or ASVK, then ARK.
        crl: DER, the ARK's revocation list.
    """

    product: SnpProduct
    signing_key: SigningKey
    issuer_chain: str
    crl: bytes

    def __post_init__(self) -> None:
        """Checks every part.

        Raises:
            FormatError: A part is malformed or too long (``collateral.malformed``, ``collateral.pem``).
        """
        if self.product not in _PRODUCTS or self.signing_key not in _SIGNING_KEYS:
            raise FormatError(f"{_WHAT}: unknown product or signing key", code=_CODE)
        if len(chain_certificates(self.issuer_chain)) != 2:
            raise FormatError(f"{_WHAT}: the chain is not an issuer and its root", code=_CODE)
        if not 0 < len(self.crl) <= MAX_CRL_BYTES:
            raise FormatError(f"{_WHAT}: the revocation list has not 1 to {MAX_CRL_BYTES} bytes", code=_CODE)

    @classmethod
    def from_json(cls, text: str | bytes) -> "AmdCollateral":
        """Parses the JSON form: chain as text, list in hexadecimal.

        Args:
            text: At most 2 MiB.

        Returns:
            The collateral.

        Raises:
            FormatError: Not exactly that (``json.*``, ``collateral.*``).
        """
        raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        members = Members(parse_json_object(raw, max_bytes=MAX_COLLATERAL_BYTES), what=_WHAT, code=_CODE)
        product, signing_key = _PRODUCTS.get(members.text("product")), _SIGNING_KEYS.get(members.text("signing_key"))
        if product is None or signing_key is None:
            raise members.refuse("product or signing_key", "is unknown")
        chain = members.text("issuer_chain", max_length=MAX_CHAIN_BYTES)
        crl = members.octets("crl", max_bytes=MAX_CRL_BYTES)
        members.finish()
        return cls(product=product, signing_key=signing_key, issuer_chain=chain, crl=crl)

    def to_json(self) -> str:
        """The JSON form, the inverse of `from_json`."""
        values = {"product": self.product, "signing_key": self.signing_key, "issuer_chain": self.issuer_chain}
        return json.dumps(values | {"crl": self.crl.hex()})

    def digests(self) -> AmdDigests:
        """Which collateral this is, for tokens and the audit log."""
        return AmdDigests(
            issuer_chain=hashlib.sha256(self.issuer_chain.encode()).digest(), crl=hashlib.sha256(self.crl).digest()
        )


def is_amd_collateral(raw: bytes) -> bool:
    """Whether collateral in JSON is AMD's and not Intel's: it alone names a signing key.

    Raises:
        FormatError: Not a JSON object (``json.*``).
    """
    return "signing_key" in parse_json_object(raw, max_bytes=MAX_COLLATERAL_BYTES)
