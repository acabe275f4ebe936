"""A simulated machine to make evidence with, right and deliberately wrong."""

import datetime as dt
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from strongroom.attestation.claims import Claims
from strongroom.attestation.collateral import Collateral
from strongroom.attestation.roots import TrustRoot
from strongroom.attestation.verify import verify_quote
from strongroom.formats.quote import TEE_TDX, Quote, QuoteHeader, parse_quote, serialize_quote, serialize_signed
from strongroom.formats.report import TdReport, serialize_sgx_report
from strongroom.platforms.simulated import SimulatedMachine, SimulatedPlatform
from strongroom.platforms.simulated.tcb import STANDARD_TCB as STANDARD
from strongroom.platforms.simulated.tcb import document_text, qe_identity, sign_document, sign_raw, tcb_info

NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
REPORT_DATA = hashlib.sha512(b"what the enclave wanted to say").digest()
MR_ENCLAVE = b"\x11" * 32
MR_TD = b"\x33" * 48
SEPT_VE_DISABLE = 1 << 28
MODULE_SIGNER = b"\x44" * 48


@dataclass(frozen=True)
class Bench:
    """Makes evidence and judges it as one verifier would.

    Args:
        machine: Its certified keys sign everything.
        platform: One enclave on it.
        quote: A good quote of that enclave.
        parts: Good collateral, part by part.
    """

    machine: SimulatedMachine
    platform: SimulatedPlatform
    quote: bytes
    parts: Collateral

    @property
    def root(self) -> TrustRoot:
        return TrustRoot("simulated", self.machine.root_der)

    def verify(
        self,
        raw: bytes | None = None,
        parts: Collateral | None = None,
        *,
        root: TrustRoot | None = None,
        now: dt.datetime = NOW,
    ) -> Claims:
        return verify_quote(self.quote if raw is None else raw, parts or self.parts, root or self.root, now).claims

    def with_tcb_info(self, change: Callable[[dict[str, Any]], object]) -> Collateral:
        document = json.loads(self.parts.tcb_info)
        change(document)
        return self.sign_tcb_info(document)

    def with_qe_identity(self, change: Callable[[dict[str, Any]], object]) -> Collateral:
        document = json.loads(self.parts.qe_identity)
        change(document)
        text = document_text(document)
        return replace(self.parts, qe_identity=text, qe_identity_signature=self.sign(text))

    def sign_tcb_info(self, document: dict[str, Any]) -> Collateral:
        text = document_text(document)
        return replace(self.parts, tcb_info=text, tcb_info_signature=self.sign(text))

    def sign(self, text: str) -> bytes:
        return sign_document(text, self.machine.pki.tcb_signer.private_key)

    def resign(self, quote: Quote) -> bytes:
        """The quote with a fresh signature of the attestation key over whatever it says now."""
        signature = sign_raw(serialize_signed(quote.header, quote.body), self.machine.attestation_key)
        return serialize_quote(replace(quote, signature=signature))

    def recertify(self, quote: Quote) -> bytes:
        """The quote with fresh signatures of both the PCK and the attestation key."""
        certified = sign_raw(serialize_sgx_report(quote.qe_report), self.machine.pki.pck.private_key)
        return self.resign(replace(quote, qe_report_signature=certified))

    def td_quote(
        self,
        version: int,
        *,
        version_15: bool = False,
        attributes: int = SEPT_VE_DISABLE,
        report_data: bytes = REPORT_DATA,
    ) -> bytes:
        """A TDX quote of this machine."""
        body = TdReport(
            tee_tcb_svn=bytes((5, 0, 2)) + bytes(13),
            mr_seam=b"\x55" * 48,
            mr_signer_seam=MODULE_SIGNER,
            seam_attributes=0,
            td_attributes=attributes,
            xfam=0xE7,
            mr_td=MR_TD,
            mr_config_id=b"\x66" * 48,
            mr_owner=bytes(48),
            mr_owner_config=bytes(48),
            rtmrs=(b"\x01" * 48, b"\x02" * 48, b"\x03" * 48, b"\x04" * 48),
            report_data=report_data,
            tee_tcb_svn_2=bytes((5, 0, 2)) + bytes(13) if version_15 else None,
            mr_service_td=bytes(48) if version_15 else None,
        )
        template = parse_quote(self.quote)
        return self.resign(replace(template, header=QuoteHeader(version=version, tee_type=TEE_TDX), body=body))

    def td_parts(self) -> Collateral:
        """Collateral that judges this machine's TDX quotes."""
        info = tcb_info(self.machine.facts, STANDARD, self.machine.validity)
        identity = qe_identity(STANDARD, self.machine.validity) | {"id": "TD_QE"}
        for level in info["tcbLevels"]:  # type: ignore[attr-defined]  # the document is a plain dict
            level["tcb"]["tdxtcbcomponents"] = [{"svn": svn} for svn in (5, 0, 2, *([0] * 13))]
        module = {
            "mrsigner": MODULE_SIGNER.hex(),
            "attributes": "0" * 16,
            "attributesMask": "F" * 16,
        }
        signed = self.sign_tcb_info(info | {"id": "TDX", "tdxModule": module})
        text = document_text(identity)
        return replace(signed, qe_identity=text, qe_identity_signature=self.sign(text))


@pytest.fixture(scope="session")
def now() -> dt.datetime:
    return NOW


@pytest.fixture(scope="session")
def bench() -> Bench:
    machine = SimulatedMachine.build(NOW)
    platform = machine.platform(mr_enclave=MR_ENCLAVE, mr_signer=b"\x22" * 32, isv_prod_id=3, isv_svn=4)
    return Bench(machine, platform, platform.quote(REPORT_DATA), machine.collateral_parts())


@pytest.fixture(scope="session")
def claims(bench: Bench) -> Claims:
    return bench.verify()


@pytest.fixture(scope="session")
def cases(testdata: Path) -> dict[str, dict[str, Any]]:
    """The known quotes by id."""
    index = json.loads((testdata / "attestation" / "index.json").read_text())
    return {case["id"]: case for case in index["cases"]}
