"""Fetches collateral from Intel's Provisioning Certification Service, or from a cache of it (PCCS).

What is fetched is believed by nobody because of where it came from: `strongroom.attestation.collateral_check` decides
before anything is stored. The connection is bounded all the same: HTTPS to the named host and no other, no redirect,
no proxy from the environment, bounded bodies, a deadline for each answer.

Source: Intel SGX Provisioning Certification Service API v4 (paths, headers, media types); Intel SGX DCAP PCCS Design
Guide (``rootcacrl`` in hexadecimal).
"""

import asyncio
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import unquote, urlsplit

import httpx

from strongroom.attestation.collateral import MAX_CHAIN_BYTES, MAX_CRL_BYTES, MAX_DOCUMENT_BYTES, Collateral
from strongroom.attestation.collateral_check import PckCa
from strongroom.errors import ConfigurationError, FormatError, UnavailableError
from strongroom.formats.evidence import SnpEvidence, VtpmEvidence, parse_evidence
from strongroom.formats.pck import pck_certificate_of, pck_extension_of

PCS_API: Final = "https://api.trustedservices.intel.com"
PCS_ROOT_CRL: Final = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
ANSWER_S: Final = 30.0
MAX_HEADER_BYTES: Final = 3 * MAX_CHAIN_BYTES

_CODE: Final = "collateral.answer"
_FETCH: Final = "collateral.fetch"
_STATUS_HINT: Final = "404: the service does not know this FMSPC; 429: ask again later"
_URL: Final = re.compile(r"https://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._-]+)*")
_JSON: Final = frozenset({"application/json"})
# Caches name a revocation list's type in many ways; a page for people is none of them.
_LIST: Final = frozenset({"application/pkix-crl", "application/octet-stream", "binary/octet-stream", "text/plain"})
_HEX: Final = re.compile(rb"\s*((?:[0-9A-Fa-f]{2})+)\s*")
_TCB_CHAINS: Final = ("TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain")  # the second: older caches
_QE_CHAINS: Final = ("SGX-Enclave-Identity-Issuer-Chain",)
_CRL_CHAINS: Final = ("SGX-PCK-CRL-Issuer-Chain",)

Tee = Literal["sgx", "tdx"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which collateral.

    Args:
        tee: For which quotes.
        fmspc: For which processors, 6 bytes.
        ca: Which CA issues their PCK certificates.
    """

    tee: Tee
    fmspc: bytes
    ca: PckCa


@dataclass(frozen=True, slots=True)
class _Answer:
    body: bytes
    chain: str


class CollateralService:
    """Intel's service, or a cache of it.

    Args:
        url: A cache's base URL (``https://HOST[:PORT]``, what stands before ``/sgx/certification/v4``); None: Intel's.
        ca_file: Certificates of the authorities of its TLS certificate, PEM; None: public ones.
        answer_s: How long one answer may take, connection included.

    Raises:
        ConfigurationError: Not such a URL or file (``collateral.url``, ``collateral.ca``).
    """

    def __init__(self, url: str | None = None, ca_file: Path | None = None, *, answer_s: float = ANSWER_S) -> None:
        self._api = PCS_API if url is None else check_url(url)
        self._root_crl = PCS_ROOT_CRL if url is None else f"{self._api}/sgx/certification/v4/rootcacrl"
        self._verify = True if ca_file is None else _tls(ca_file)
        self._answer_s = answer_s

    def fetch(self, wanted: Wanted) -> Collateral:
        """Fetch the parts for one kind of platform.

        Args:
            wanted: Which.

        Returns:
            Well-formed collateral that nobody has verified.

        Raises:
            UnavailableError: The service does not answer, too slowly, or with an error (``collateral.fetch``).
            FormatError: An answer is not what it should be (``collateral.answer``, ``collateral.*``, ``json.*``).
        """
        return asyncio.run(self._fetch(wanted))

    async def _fetch(self, wanted: Wanted) -> Collateral:
        base = f"{self._api}/{wanted.tee}/certification/v4"
        fmspc = wanted.fmspc.hex().upper()
        crl_url = f"{self._api}/sgx/certification/v4/pckcrl?ca={wanted.ca}&encoding=der"
        async with httpx.AsyncClient(
            verify=self._verify, follow_redirects=False, trust_env=False, timeout=self._answer_s
        ) as http:
            tcb_info = await self._get(http, f"{base}/tcb?fmspc={fmspc}", _JSON, MAX_DOCUMENT_BYTES, _TCB_CHAINS)
            identity = await self._get(http, f"{base}/qe/identity", _JSON, MAX_DOCUMENT_BYTES, _QE_CHAINS)
            pck_crl = await self._get(http, crl_url, _LIST, 2 * MAX_CRL_BYTES, _CRL_CHAINS)
            root_crl = await self._get(http, self._root_crl, _LIST, 2 * MAX_CRL_BYTES)
        tcb_text, tcb_signature = signed_document(tcb_info.body, "tcbInfo")
        qe_text, qe_signature = signed_document(identity.body, "enclaveIdentity")
        return Collateral(
            pck_crl_issuer_chain=pck_crl.chain,
            root_ca_crl=_der(root_crl.body),
            pck_crl=_der(pck_crl.body),
            tcb_info_issuer_chain=tcb_info.chain,
            tcb_info=tcb_text,
            tcb_info_signature=tcb_signature,
            qe_identity_issuer_chain=identity.chain,
            qe_identity=qe_text,
            qe_identity_signature=qe_signature,
        )

    async def _get(
        self, http: httpx.AsyncClient, url: str, types: frozenset[str], max_bytes: int, chains: tuple[str, ...] = ()
    ) -> _Answer:
        host, what = urlsplit(url).netloc, urlsplit(url).path.rpartition("/")[2]
        try:
            async with (
                asyncio.timeout(self._answer_s),
                http.stream("GET", url, headers={"accept-encoding": "identity"}) as answer,
            ):
                if answer.status_code != httpx.codes.OK:
                    raise UnavailableError(
                        f"{host} answers {answer.status_code} for {what}", code=_FETCH, hint=_STATUS_HINT
                    )
                media_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
                if media_type not in types or answer.headers.get("content-encoding", "identity") != "identity":
                    raise FormatError(f"the answer for {what} is of another type", code=_CODE)
                chain = _chain(answer, what, chains)
                return _Answer(await _read(answer, what, max_bytes), chain)
        except (TimeoutError, httpx.TimeoutException):
            raise UnavailableError(f"{host}: the answer for {what} takes too long", code=_FETCH) from None
        except httpx.HTTPError as error:
            raise UnavailableError(f"{host}: no answer for {what}: {type(error).__name__}", code=_FETCH) from None


async def _read(answer: httpx.Response, what: str, max_bytes: int) -> bytes:
    body = bytearray()
    async for block in answer.aiter_raw():
        body += block
        if len(body) > max_bytes:
            raise FormatError(f"the answer for {what} is longer than {max_bytes} bytes", code=_CODE)
    return bytes(body)


def platform_of_quote(quote: bytes) -> Wanted:
    """Which collateral judges the platform of a quote or other evidence; nothing of it is verified.

    Raises:
        FormatError: Not a quote with a PCK chain.
        ConfigurationError: Evidence of an AMD processor (``collateral.wanted``).
    """
    evidence = parse_evidence(quote)
    hardware = evidence.hardware if isinstance(evidence, VtpmEvidence) else evidence
    if isinstance(hardware, SnpEvidence):
        raise ConfigurationError(
            "the evidence is of an AMD processor", code="collateral.wanted", hint="strongroom broker amd-collateral"
        )
    leaf = pck_certificate_of(hardware.quote)
    try:
        ca: PckCa = "processor" if "Processor CA" in leaf.issuer.rfc4514_string() else "platform"
    except ValueError:
        raise FormatError("the PCK is not a certificate", code="quote.pem") from None
    return Wanted(hardware.quote.tee, pck_extension_of(leaf).fmspc, ca)


def check_url(url: str) -> str:
    """A cache's base URL without a slash at its end.

    Raises:
        ConfigurationError: Not HTTPS, or with a user, query, fragment or escapes (``collateral.url``).
    """
    plain = url.removesuffix("/")
    if not _URL.fullmatch(plain):
        raise ConfigurationError(
            "the cache's URL is not https://HOST[:PORT][/PATH]",
            code="collateral.url",
            hint="what stands before /sgx/certification/v4",
        )
    return plain


def signed_document(body: bytes, member: str) -> tuple[str, bytes]:
    """The exact text that is signed, and its signature: the two members of Intel's answers, in Intel's order.

    Args:
        body: ``{"tcbInfo":{...},"signature":"<128 hexadecimal digits>"}``.
        member: Name of the first member.

    Returns:
        Text and signature (64 bytes). Whether the text is one JSON object is for its parser to say.

    Raises:
        FormatError: Not that (``collateral.answer``).
    """
    pattern = rb'\s*\{\s*"%s"\s*:\s*(\{.*\})\s*,\s*"signature"\s*:\s*"([0-9A-Fa-f]{128})"\s*\}\s*'
    found = re.fullmatch(pattern % member.encode(), body, re.DOTALL)
    if found is None:
        raise FormatError(f"the answer is not a signed {member}", code=_CODE)
    try:
        return found[1].decode("utf-8"), bytes.fromhex(found[2].decode())
    except UnicodeDecodeError:
        raise FormatError(f"the {member} is not UTF-8", code=_CODE) from None


def _chain(answer: httpx.Response, what: str, names: tuple[str, ...]) -> str:
    # PEM, percent-encoded in a header.
    if not names:
        return ""
    values = [value for name in names for value in answer.headers.get_list(name)]
    if len(values) != 1 or len(values[0]) > MAX_HEADER_BYTES:
        raise FormatError(f"the answer for {what} has not one issuer chain", code=_CODE)
    text = unquote(values[0], errors="replace")
    return text if text.endswith("\n") else text + "\n"


def _der(body: bytes) -> bytes:
    """A revocation list, which caches may give in hexadecimal."""
    found = _HEX.fullmatch(body)
    return bytes.fromhex(found[1].decode()) if found else body


def _tls(ca_file: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except (OSError, ssl.SSLError):
        raise ConfigurationError(f"cannot read certificates from {ca_file}", code="collateral.ca") from None
