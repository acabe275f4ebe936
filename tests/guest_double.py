"""A double of AMD and of Azure: roots, chips, reports and virtual TPMs with keys made here, in the real formats."""

import base64
import datetime as dt
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID, ObjectIdentifier

from strongroom.attestation.amd_collateral import AmdCollateral
from strongroom.attestation.roots import AmdRoot
from strongroom.formats import der
from strongroom.formats import endorsement_key as oids
from strongroom.formats.evidence import DcapEvidence, SnpEvidence, VtpmEvidence, serialize_evidence
from strongroom.formats.hcl import report_data_of
from strongroom.formats.snp_report import (
    SIGNED_SIZE,
    SigningKey,
    SnpProduct,
    SnpReport,
    SnpTcb,
    parse_snp_report,
    serialize_snp_report,
)
from strongroom.formats.tpm_quote import SELECTION, extra_data_of, pcr_digest_of

NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA384()), salt_length=48)
MEASUREMENT = b"\x5a" * 48
CPUIDS: dict[SnpProduct, bytes] = {
    "milan": bytes((0x19, 0x01, 0x01)),
    "genoa": bytes((0x19, 0x11, 0x01)),
    "turin": bytes((0x1A, 0x02, 0x01)),
}
POLICY = 1 << 17 | 0x1F


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Advanced Micro Devices"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


@dataclass(frozen=True)
class AmdDouble:
    """Somebody who signs as AMD does, under roots of their own.

    Args:
        root_key: Of the ARK.
        issuer_key: Of ASK and ASVK.
        product: Which processors.
        chip_key: Of VCEK and VLEK.
    """

    root_key: rsa.RSAPrivateKey
    issuer_key: rsa.RSAPrivateKey
    product: SnpProduct = "milan"
    chip_key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP384R1()))

    @classmethod
    def create(cls) -> "AmdDouble":
        return cls(rsa.generate_private_key(65537, 4096), rsa.generate_private_key(65537, 4096))

    @property
    def root(self) -> AmdRoot:
        spki = self.root_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return AmdRoot("simulated", {self.product: hashlib.sha256(spki).hexdigest()})

    @property
    def tcb(self) -> SnpTcb:
        return SnpTcb(bootloader=4, tee=1, snp=24, microcode=219, fmc=3 if self.product == "turin" else None)

    @property
    def chip_id(self) -> bytes:
        return (b"\xc1" * 8).ljust(64, b"\0") if self.product == "turin" else b"\xc1" * 64

    @cached_property
    def root_certificate(self) -> x509.Certificate:
        return self.authority(self.root_name, self.root_name, self.root_key, self.root_key)

    @property
    def root_name(self) -> str:
        return f"ARK-{self.product.title()}"

    def issuer_name(self, signing_key: SigningKey) -> str:
        return f"SEV-VLEK-{self.product.title()}" if signing_key == "vlek" else f"SEV-{self.product.title()}"

    def authority(
        self,
        name: str,
        issuer: str,
        key: rsa.RSAPrivateKey,
        signer: rsa.RSAPrivateKey,
        *,
        ca: bool = True,
        certifies: bool = True,
        serial: int = 65537,
        validity: tuple[dt.datetime, dt.datetime] = (NOW - 1000 * DAY, NOW + 1000 * DAY),
    ) -> x509.Certificate:
        usage = dict.fromkeys(
            ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
        )
        last = {"key_cert_sign": certifies, "crl_sign": True, "encipher_only": False, "decipher_only": False}
        return (
            x509.CertificateBuilder(_name(issuer), _name(name), key.public_key(), serial, *validity)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(**usage, **last), critical=True)
            .sign(signer, hashes.SHA384(), rsa_padding=PSS)
        )

    def crl(
        self,
        revoked: Sequence[int] = (),
        *,
        issuer: str | None = None,
        signer: rsa.RSAPrivateKey | None = None,
        validity: tuple[dt.datetime, dt.datetime] = (NOW - DAY, NOW + 30 * DAY),
        extension: x509.ExtensionType | None = None,
    ) -> bytes:
        builder = x509.CertificateRevocationListBuilder(_name(issuer or self.root_name), *validity)
        for serial in revoked:
            entry = x509.RevokedCertificateBuilder(serial, NOW - DAY).build()
            builder = builder.add_revoked_certificate(entry)
        if extension is not None:
            builder = builder.add_extension(extension, critical=True)
        return builder.sign(signer or self.root_key, hashes.SHA384(), rsa_padding=PSS).public_bytes(Encoding.DER)

    def collateral(
        self,
        signing_key: SigningKey = "vcek",
        *,
        issuer: x509.Certificate | None = None,
        root: x509.Certificate | None = None,
        crl: bytes | None = None,
    ) -> AmdCollateral:
        name = self.issuer_name(signing_key)
        chain = (
            issuer or self.authority(name, self.root_name, self.issuer_key, self.root_key),
            root or self.root_certificate,
        )
        pem = "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in chain)
        return AmdCollateral(
            product=self.product, signing_key=signing_key, issuer_chain=pem, crl=self.crl() if crl is None else crl
        )

    def extensions(self, signing_key: SigningKey = "vcek", tcb: SnpTcb | None = None) -> dict[str, bytes]:
        tcb = tcb or self.tcb
        product = self.product.title()
        ia5 = 0x16
        values = {
            oids.STRUCT_VERSION: der.encode_integer(0),
            oids.PRODUCT_NAME: der.encode(ia5, f"{product}-B0".encode() if signing_key == "vcek" else product.encode()),
            oids.BOOTLOADER: der.encode_integer(tcb.bootloader),
            oids.TEE: der.encode_integer(tcb.tee),
            oids.SNP: der.encode_integer(tcb.snp),
            oids.MICROCODE: der.encode_integer(tcb.microcode),
        }
        if tcb.fmc is not None:
            values[oids.FMC] = der.encode_integer(tcb.fmc)
        if signing_key == "vcek":
            return values | {oids.HARDWARE_ID: self.chip_id[: 8 if self.product == "turin" else 64]}
        return values | {oids.CSP_ID: der.encode(ia5, b"CN=cloud.example")}

    def leaf(
        self,
        signing_key: SigningKey = "vcek",
        *,
        extensions: Mapping[str, bytes] | None = None,
        signer: rsa.RSAPrivateKey | None = None,
        issuer: str | None = None,
        key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey | None = None,
        validity: tuple[dt.datetime, dt.datetime] = (NOW - 100 * DAY, NOW + 100 * DAY),
    ) -> bytes:
        """A VCEK or VLEK certificate with the serial number 0, as all of AMD's have."""
        name = issuer or self.issuer_name(signing_key)
        subject = _name(f"SEV-{signing_key.upper()}")
        public = key or self.chip_key.public_key()
        builder = x509.CertificateBuilder(_name(name), subject, public, 1, *validity)
        for oid, value in (self.extensions(signing_key) if extensions is None else extensions).items():
            builder = builder.add_extension(x509.UnrecognizedExtension(ObjectIdentifier(oid), value), critical=False)
        signer = signer or self.issuer_key
        certificate = builder.sign(signer, hashes.SHA384(), rsa_padding=PSS)
        tbs = certificate.tbs_certificate_bytes.replace(b"\x02\x01\x02\x02\x01\x01", b"\x02\x01\x02\x02\x01\x00", 1)
        parts = der.parse_sequence(
            der.parse_one(certificate.public_bytes(Encoding.DER), der.SEQUENCE, code="test"), code="test"
        )
        signature = signer.sign(tbs, PSS, hashes.SHA384())
        return der.encode(der.SEQUENCE, tbs, parts[1].raw, der.encode(der.BIT_STRING, b"\0" + signature))

    def report(self, report_data: bytes = bytes(64), signing_key: SigningKey = "vcek", **changes: Any) -> SnpReport:
        """A report with a good signature."""
        version = changes.get("version", 3)
        values: dict[str, Any] = {
            "version": version,
            "guest_svn": 0,
            "policy": POLICY,
            "family_id": bytes(16),
            "image_id": bytes(16),
            "vmpl": 0,
            "current_tcb": self.tcb,
            "platform_info": 0,
            "key_info": 0 if signing_key == "vcek" else 1 << 2,
            "report_data": report_data,
            "measurement": MEASUREMENT,
            "host_data": b"\x0d" * 32,
            "id_key_digest": b"\x1d" * 48,
            "author_key_digest": bytes(48),
            "report_id": b"\x01" * 32,
            "report_id_ma": b"\xff" * 32,
            "reported_tcb": self.tcb,
            "cpuid": None if version == 2 else CPUIDS[self.product],
            "chip_id": self.chip_id if signing_key == "vcek" else bytes(64),
            "committed_tcb": self.tcb,
            "current_version": b"\x01\x37\x01",
            "committed_version": b"\x01\x37\x01",
            "launch_tcb": self.tcb,
            "launch_mit_vector": 1 if version == 5 else None,
            "current_mit_vector": 1 if version == 5 else None,
            "signature_r": bytes(72),
            "signature_s": bytes(72),
        }
        return self.signed(SnpReport(**(values | changes)))

    def signed(self, report: SnpReport) -> SnpReport:
        raw = serialize_snp_report(report)
        signature = self.chip_key.sign(raw[:SIGNED_SIZE], ec.ECDSA(hashes.SHA384()))
        r, s = (number.to_bytes(72, "little") for number in decode_dss_signature(signature))
        return replace(report, signature_r=r, signature_s=s)

    def parts(
        self,
        report_data: bytes = bytes(64),
        signing_key: SigningKey = "vcek",
        *,
        leaf: bytes | None = None,
        **changes: Any,
    ) -> SnpEvidence:
        raw = serialize_snp_report(self.report(report_data, signing_key, **changes))
        return SnpEvidence(raw, parse_snp_report(raw), self.leaf(signing_key) if leaf is None else leaf)

    def evidence(self, report_data: bytes = bytes(64), signing_key: SigningKey = "vcek", **changes: Any) -> bytes:
        return serialize_evidence(self.parts(report_data, signing_key, **changes))


@dataclass(frozen=True)
class VtpmDouble:
    """A virtual TPM as Azure's paravisor makes it.

    Args:
        pcrs: Values of PCRs 0 to 15.
        key: Its attestation key.
    """

    pcrs: tuple[bytes, ...] = tuple(bytes((index,)) * 32 for index in range(16))
    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))

    def runtime_data(self, **changes: Any) -> bytes:
        modulus = self.key.public_key().public_numbers().n.to_bytes(256, "big")
        key = {
            "kid": "HCLAkPub",
            "key_ops": ["sign"],
            "kty": "RSA",
            "e": "AQAB",
            "n": base64.urlsafe_b64encode(modulus).rstrip(b"=").decode(),
        }
        keys = changes.get("keys", [key | changes, {"kid": "HCLEkPub", "kty": "RSA", "e": "AQAB", "n": "AA"}])
        return json.dumps({"keys": keys, "vm-configuration": {"secure-boot": True}, "user-data": "00"}).encode()

    def attest(self, report_data: bytes, **changes: bytes) -> bytes:
        parts = {
            "magic": bytes.fromhex("ff544347"),
            "type": bytes.fromhex("8018"),
            "signer": b"\x00\x22" + b"\x00\x0b" + bytes(32),
            "extra_data": extra_data_of(report_data),
            "clock": bytes(17),
            "firmware": bytes(8),
            "selection": SELECTION,
            "digest": pcr_digest_of(self.pcrs),
        } | changes
        for name in ("extra_data", "digest"):
            parts[name] = len(parts[name]).to_bytes(2, "big") + parts[name]
        return b"".join(parts.values())

    def sign(self, attest: bytes) -> bytes:
        return self.key.sign(attest, padding.PKCS1v15(), hashes.SHA256())

    def parts(
        self, hardware: SnpEvidence | DcapEvidence, report_data: bytes, runtime_data: bytes | None = None
    ) -> VtpmEvidence:
        attest = self.attest(report_data)
        return VtpmEvidence(
            hardware=hardware,
            runtime_data=self.runtime_data() if runtime_data is None else runtime_data,
            attest=attest,
            signature=self.sign(attest),
            pcrs=self.pcrs,
            report_data=report_data,
        )


@dataclass(frozen=True)
class GuestPlatform:
    """A platform on such hardware: `snp`, or `azure-snp` where there is a virtual TPM."""

    amd: AmdDouble
    vtpm: VtpmDouble | None = None

    @property
    def name(self) -> str:
        return "snp" if self.vtpm is None else "azure-snp"

    @property
    def tee(self) -> Literal["snp", "az-snp-vtpm"]:
        return "snp" if self.vtpm is None else "az-snp-vtpm"

    @property
    def simulated(self) -> bool:
        return True

    def quote(self, report_data: bytes) -> bytes:
        if self.vtpm is None:
            return self.amd.evidence(report_data)
        hardware = self.amd.parts(report_data_of(self.vtpm.runtime_data()))
        return serialize_evidence(self.vtpm.parts(hardware, report_data))
