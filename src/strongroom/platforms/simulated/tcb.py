"""What the simulated machine is, and the signed documents that judge it: TCB info v3 and QE identity v2.

Source: Intel Provisioning Certification Service API v4, "Get TCB Info" and "Get Quoting Enclave Identity". The
signature covers the exact text of the inner document, so a document is written once (`document_text`) and that text is
signed and handed on, never serialized again.
"""

import datetime as dt
import hashlib
import json
from dataclasses import dataclass, field
from typing import Final, Literal

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from strongroom.errors import ConfigurationError
from strongroom.formats.pck import PckExtension, PlatformConfiguration
from strongroom.platforms.simulated.pki import Validity

TcbStatus = Literal[
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "Revoked",
]

SIMULATED_FMSPC: Final = b"SIM\x00\x00\x01"
_COMPONENT_SVNS: Final = (11, 11, 2, 2, 255, 1, *([0] * 10))
_OUTDATED: Final = ("OutOfDate", "OutOfDateConfigurationNeeded", "Revoked")

QE_MR_SIGNER: Final = hashlib.sha256(b"Strongroom simulated quoting enclave signer").digest()
QE_MR_ENCLAVE: Final = hashlib.sha256(b"Strongroom simulated quoting enclave").digest()
QE_ISV_PROD_ID: Final = 1
QE_ISV_SVN: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class TcbFacts:
    """How the signed documents judge the machine.

    Args:
        status: TCB status of the machine's level; None: no level matches it.
        advisory_ids: Security advisories of that level, e.g. ``("INTEL-SA-00615",)``.
        qe_status: TCB status of the quoting enclave.
        evaluation_data_number: Grows with every TCB recovery event.
        tcb_date: Date of the level, aware.
    """

    status: TcbStatus | None = "UpToDate"
    advisory_ids: tuple[str, ...] = ()
    qe_status: TcbStatus = "UpToDate"
    evaluation_data_number: int = 20
    tcb_date: dt.datetime = field(default=dt.datetime(2026, 1, 1, tzinfo=dt.UTC))


STANDARD_TCB: Final = TcbFacts()


def simulated_platform(ppid: bytes, platform_instance_id: bytes) -> PckExtension:
    """What a simulated machine's PCK certificate says; `dataclasses.replace` makes another machine of it.

    Args:
        ppid: Platform provisioning id, 16 random bytes.
        platform_instance_id: 16 random bytes.
    """
    return PckExtension(
        ppid=ppid,
        component_svns=_COMPONENT_SVNS,
        pce_svn=13,
        cpu_svn=bytes(_COMPONENT_SVNS),
        pce_id=bytes(2),
        fmspc=SIMULATED_FMSPC,
        sgx_type=1,
        platform_instance_id=platform_instance_id,
        configuration=PlatformConfiguration(dynamic_platform=False, cached_keys=False, smt_enabled=False),
    )


def tcb_info(platform: PckExtension, tcb: TcbFacts, validity: Validity) -> dict[str, object]:
    """The TCB info document, version 3.

    An outdated or revoked machine gets a newer level above its own, and a machine with no status only that one: levels
    are tried from the newest, and the first that the machine reaches is its own.
    """
    newer = _level(_next_svns(platform), platform.pce_svn, "UpToDate", tcb.tcb_date)
    own = [] if tcb.status is None else [_level(platform.component_svns, platform.pce_svn, tcb.status, tcb.tcb_date)]
    if own and tcb.advisory_ids:
        own[0]["advisoryIDs"] = list(tcb.advisory_ids)
    return {
        "id": "SGX",
        "version": 3,
        "issueDate": timestamp(validity.start),
        "nextUpdate": timestamp(validity.end),
        "fmspc": platform.fmspc.hex(),
        "pceId": platform.pce_id.hex(),
        "tcbType": 0,
        "tcbEvaluationDataNumber": tcb.evaluation_data_number,
        "tcbLevels": ([newer] if tcb.status is None or tcb.status in _OUTDATED else []) + own,
    }


def qe_identity(tcb: TcbFacts, validity: Validity) -> dict[str, object]:
    """The quoting enclave's identity document, version 2."""
    return {
        "id": "QE",
        "version": 2,
        "issueDate": timestamp(validity.start),
        "nextUpdate": timestamp(validity.end),
        "tcbEvaluationDataNumber": tcb.evaluation_data_number,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": QE_MR_SIGNER.hex().upper(),
        "isvprodid": QE_ISV_PROD_ID,
        "tcbLevels": [
            {"tcb": {"isvsvn": QE_ISV_SVN}, "tcbDate": timestamp(tcb.tcb_date), "tcbStatus": tcb.qe_status},
        ],
    }


def document_text(document: dict[str, object]) -> str:
    """The document as the text that is signed: compact JSON in the order of its members."""
    return json.dumps(document, separators=(",", ":"))


def sign_document(text: str, private_key: ec.EllipticCurvePrivateKey) -> bytes:
    """ECDSA P-256 with SHA-256 over the text: r then s, 64 bytes."""
    return sign_raw(text.encode(), private_key)


def sign_raw(message: bytes, private_key: ec.EllipticCurvePrivateKey) -> bytes:
    """ECDSA P-256 with SHA-256: r then s, 32 bytes each, big-endian."""
    r, s = decode_dss_signature(private_key.sign(message, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def timestamp(moment: dt.datetime) -> str:
    """ISO 8601 in UTC with whole seconds, as Intel's documents write it."""
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _level(svns: tuple[int, ...], pce_svn: int, status: str, date: dt.datetime) -> dict[str, object]:
    components = [{"svn": svn} for svn in svns]
    return {
        "tcb": {"sgxtcbcomponents": components, "pcesvn": pce_svn},
        "tcbDate": timestamp(date),
        "tcbStatus": status,
    }


def _next_svns(platform: PckExtension) -> tuple[int, ...]:
    """Versions that the machine does not reach: one more in the first component that can grow.

    Raises:
        ConfigurationError: All 16 are at their maximum (``simulated.facts``).
    """
    for place, svn in enumerate(platform.component_svns):
        if svn < 255:
            return (*platform.component_svns[:place], svn + 1, *platform.component_svns[place + 1 :])
    raise ConfigurationError("all component versions are at their maximum", code="simulated.facts")
