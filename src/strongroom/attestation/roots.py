"""Trust roots: whose signature in the end makes a quote genuine.

A root of kind "intel" can only be Intel's certificate, and Intel's certificate can only be of kind "intel": what a
verified quote says about its root is decided here and cannot be mislabelled.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec

from strongroom.errors import ConfigurationError
from strongroom.formats.snp_report import SnpProduct

# "Intel SGX Root CA", valid 2018-05-21 to 2049-12-31.
# Source: https://certificates.trustedservices.intel.com/Intel_SGX_Provisioning_Certification_RootCA.cer
INTEL_ROOT_SHA256: Final = "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"
_INTEL_ROOT_BASE64: Final = """
MIICjzCCAjSgAwIBAgIUImUM1lqdNInzg7SVUr9QGzknBqwwCgYIKoZIzj0EAwIwaDEaMBgGA1UEAwwRSW50ZWwgU0dYIFJvb3Qg
Q0ExGjAYBgNVBAoMEUludGVsIENvcnBvcmF0aW9uMRQwEgYDVQQHDAtTYW50YSBDbGFyYTELMAkGA1UECAwCQ0ExCzAJBgNVBAYT
AlVTMB4XDTE4MDUyMTEwNDUxMFoXDTQ5MTIzMTIzNTk1OVowaDEaMBgGA1UEAwwRSW50ZWwgU0dYIFJvb3QgQ0ExGjAYBgNVBAoM
EUludGVsIENvcnBvcmF0aW9uMRQwEgYDVQQHDAtTYW50YSBDbGFyYTELMAkGA1UECAwCQ0ExCzAJBgNVBAYTAlVTMFkwEwYHKoZI
zj0CAQYIKoZIzj0DAQcDQgAEC6nEwMDIYZOj/iPWsCzaEKi71OiOSLRFhWGjbnBVJfVnkY4u3IjkDYYL0MxO4mqsyYjlBalTVYxF
P2sJBK5zlKOBuzCBuDAfBgNVHSMEGDAWgBQiZQzWWp00ifODtJVSv1AbOScGrDBSBgNVHR8ESzBJMEegRaBDhkFodHRwczovL2Nl
cnRpZmljYXRlcy50cnVzdGVkc2VydmljZXMuaW50ZWwuY29tL0ludGVsU0dYUm9vdENBLmRlcjAdBgNVHQ4EFgQUImUM1lqdNInz
g7SVUr9QGzknBqwwDgYDVR0PAQH/BAQDAgEGMBIGA1UdEwEB/wQIMAYBAf8CAQEwCgYIKoZIzj0EAwIDSQAwRgIhAOW/5QkR+S9C
iSDcNoowLuPRLsWGf/Yi7GSX94BgwTwgAiEA4J0lrHoMs+Xo5o/sX6O9QWxHRAvZUGOdRQ7cvqRXaqI=
"""

# SHA-256 of the SubjectPublicKeyInfo of ARK-Milan, ARK-Genoa and ARK-Turin, RSA 4096.
# Source: AMD's root certificates as built into virtee/sev (src/certs/snp/builtin) and google/go-sev-guest
# (verify/trust), which agree; AMD gives them out at https://kdsintf.amd.com/vcek/v1/{Milan,Genoa,Turin}/cert_chain.
AMD_ROOT_KEYS: Final[Mapping[SnpProduct, str]] = {
    "milan": "9f056bee44377e29308cb5ffa895bdfb62d18881fa6bed8d6f075b0204089cb9",
    "genoa": "429a69c9422aa258ee4d8db5fcda9c6470ef15f8cd5a9cebd6cbc7d90b863831",
    "turin": "4f125410563a2ab9a50356f9243f6fe0b6f73de98603f53f90339c70e9d7ad08",
}


@dataclass(frozen=True, slots=True)
class AmdRoot:
    """Root keys of SEV-SNP reports and what they stand for.

    Args:
        kind: "amd" for hardware, "simulated" for evidence that protects nothing.
        keys: SHA-256 of the root's SubjectPublicKeyInfo for each product, hexadecimal.
    """

    kind: Literal["amd", "simulated"]
    keys: Mapping[SnpProduct, str]

    def __post_init__(self) -> None:
        """Checks that kind and keys belong together.

        Raises:
            ConfigurationError: They do not (``root.invalid``).
        """
        amd = set(AMD_ROOT_KEYS.values())
        of_amd = dict(self.keys) == dict(AMD_ROOT_KEYS)
        of_nobody_else = not amd & set(self.keys.values())
        if not self.keys or not (of_amd if self.kind == "amd" else of_nobody_else and self.kind == "simulated"):
            raise ConfigurationError(f"these keys are not roots of kind {self.kind}", code="root.invalid")

    @property
    def simulated(self) -> bool:
        """Whether evidence under this root protects nothing."""
        return self.kind == "simulated"


@dataclass(frozen=True, slots=True)
class TrustRoot:
    """A root certificate and what it stands for.

    Args:
        kind: "intel" for hardware, "simulated" for evidence that protects nothing.
        certificate_der: The self-signed certificate.
    """

    kind: Literal["intel", "simulated"]
    certificate_der: bytes

    def __post_init__(self) -> None:
        """Checks that kind and certificate belong together.

        Raises:
            ConfigurationError: They do not, or it is not a self-signed P-256 certificate (``root.invalid``).
        """
        is_intel = hashlib.sha256(self.certificate_der).hexdigest() == INTEL_ROOT_SHA256
        if self.kind not in {"intel", "simulated"} or is_intel != (self.kind == "intel"):
            raise ConfigurationError(f"this certificate is not a root of kind {self.kind}", code="root.invalid")
        try:
            certificate = x509.load_der_x509_certificate(self.certificate_der)
            certificate.verify_directly_issued_by(certificate)
            key = certificate.public_key()
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.InvalidVersion) as error:
            raise ConfigurationError("not a self-signed certificate", code="root.invalid") from error
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ConfigurationError("the root's key is not P-256", code="root.invalid")

    @property
    def simulated(self) -> bool:
        """Whether evidence under this root protects nothing."""
        return self.kind == "simulated"


INTEL_ROOT: Final = TrustRoot("intel", base64.b64decode(_INTEL_ROOT_BASE64))
AMD_ROOT: Final = AmdRoot("amd", AMD_ROOT_KEYS)
