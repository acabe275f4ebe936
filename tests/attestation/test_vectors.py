"""Known quotes of real hardware with Intel's collateral: each gives its known outcome for its known reason."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import dcap_qvl
import pytest

from strongroom.attestation.claims import Claims
from strongroom.attestation.collateral import Collateral
from strongroom.attestation.roots import INTEL_ROOT, TrustRoot
from strongroom.attestation.verify import verify_quote
from strongroom.errors import FormatError, StrongroomError, VerificationError
from strongroom.formats.quote import parse_quote

ACCEPTED = {
    "sgx_v3_config_swhardening": "ConfigurationAndSWHardeningNeeded",
    "sgx_v3_azure_icelake_swhardening": "SWHardeningNeeded",
    "sgx_v3_icelake_outofdate": "OutOfDate",
    "sgx_v3_maa_release_outofdate": "OutOfDate",
    "tdx_v4_uptodate": "UpToDate",
    "tdx_v4_uptodate_2024": "UpToDate",
}
REFUSED = {
    "sgx_v3_azure_debug_enclave": "quote.debug",
    "sgx_v3_maa_debug": "quote.debug",
    "sgx_v3_azure_expired_collateral": "collateral.expired",
    "sgx_v3_azure_not_yet_valid": "collateral.not_yet_valid",
    "sgx_v3_wrong_fmspc_collateral": "quote.fmspc_mismatch",
    "sgx_v3_tampered_mrenclave": "quote.signature",
    "sgx_v3_truncated": "quote.truncated",
    "tdx_v5_no_tcb_level": "tcb.no_level",
    # These two come without collateral of their own; they are refused before any is looked at.
    "sgx_v3_encrypted_ppid": "quote.certification",
    "tdx_v4_trustee_debug_td": "quote.debug",
}
# Genuine, but its TCB info is version 2, which Intel no longer serves and dcap-qvl can't judge.
UNSUPPORTED = "sgx_v3_old_tcbinfo_v2"
ANY_COLLATERAL = "collateral/fmspc_00606a_2023_05.json"
ANY_TIME = 1684165303


class Vector:
    def __init__(self, folder: Path, case: dict[str, Any]) -> None:
        self.case = case
        self.raw = (folder / case["quote"]).read_bytes()
        self.collateral_text = (folder / (case.get("collateral") or ANY_COLLATERAL)).read_text()
        self.now = dt.datetime.fromtimestamp(case.get("verification_time") or ANY_TIME, dt.UTC)

    def verify(self, root: TrustRoot = INTEL_ROOT) -> Claims:
        return verify_quote(self.raw, Collateral.from_json(self.collateral_text), root, self.now).claims


@pytest.fixture
def vector(testdata: Path, cases: dict[str, dict[str, Any]], request: pytest.FixtureRequest) -> Vector:
    return Vector(testdata / "attestation", cases[request.param])


def test_every_known_case_has_an_expectation(cases: dict[str, dict[str, Any]]) -> None:
    assert set(cases) == set(ACCEPTED) | set(REFUSED) | {UNSUPPORTED}
    assert len(cases) == 17
    assert {name for name in cases if cases[name]["expect"] == "accept"} == set(ACCEPTED) | {UNSUPPORTED}


@pytest.mark.parametrize("vector", ACCEPTED, indirect=True)
def test_genuine_quote_gives_its_known_claims(vector: Vector) -> None:
    claims, case = vector.verify(), vector.case
    fields = case["fields"]
    assert claims.tcb_status == ACCEPTED[case["id"]] == case["tcb_status"]
    assert set(claims.advisories) == set(case["advisory_ids"])
    assert (claims.simulated, claims.debug, claims.tee) == (False, False, fields["tee"])
    assert claims.report_data.hex() == fields["report_data"]
    assert claims.ppid is not None
    if claims.tee == "sgx":
        assert claims.mr_enclave is not None
        assert claims.mr_signer is not None
        assert claims.mr_enclave.hex() == fields["mrenclave"]
        assert claims.mr_signer.hex() == fields["mrsigner"]
        assert (claims.isv_prod_id, claims.isv_svn) == (fields["isv_prod_id"], fields["isv_svn"])
    else:
        body = parse_quote(vector.raw).body
        assert (claims.mr_td, claims.rtmrs) == (getattr(body, "mr_td", 0), getattr(body, "rtmrs", 0))


@pytest.mark.parametrize("vector", ACCEPTED, indirect=True)
def test_expiry_is_the_first_one_dcap_qvl_sees_too(vector: Vector) -> None:
    now_s = int(vector.now.timestamp())
    parts = dcap_qvl.QuoteCollateralV3.from_json(vector.collateral_text)
    policy = dcap_qvl.QuotePolicy.claims_only(now_s)
    verifier = dcap_qvl.QuoteVerifier(INTEL_ROOT.certificate_der)
    theirs = json.loads(verifier.verify_with_policy(vector.raw, parts, now_s, policy).to_json())
    expiry_s = min(theirs["earliest_expiration_date"], theirs["qe_iden_earliest_expiration_date"])
    claims = vector.verify()
    assert claims.collateral_expires.timestamp() == expiry_s
    assert claims.tcb_eval_data_number == min(theirs["tcb"]["eval_data_number"], theirs["qe"]["tcb_eval_data_number"])


@pytest.mark.parametrize("vector", ACCEPTED, indirect=True)
def test_real_quote_is_refused_under_a_simulated_root(vector: Vector, bench: Any) -> None:
    with pytest.raises(VerificationError) as refusal:
        vector.verify(bench.root)
    assert refusal.value.code == "root.mismatch"


@pytest.mark.parametrize("vector", REFUSED, indirect=True)
def test_bad_quote_is_refused_for_its_reason(vector: Vector) -> None:
    with pytest.raises((FormatError, VerificationError)) as refusal:
        vector.verify()
    assert refusal.value.code == REFUSED[vector.case["id"]]


@pytest.mark.parametrize("vector", [UNSUPPORTED], indirect=True)
def test_old_collateral_is_refused_as_unsupported(vector: Vector) -> None:
    with pytest.raises(FormatError) as refusal:
        vector.verify()
    assert refusal.value.code == "collateral.unsupported_version"
    assert refusal.value.hint is not None


@pytest.mark.parametrize("vector", ["sgx_v3_azure_icelake_swhardening"], indirect=True)
def test_refuses_collateral_of_every_other_case(vector: Vector, testdata: Path) -> None:
    others = [p for p in sorted((testdata / "attestation" / "collateral").glob("*.json")) if "00606a" not in p.name]
    assert len(others) == 6
    for path in others:
        with pytest.raises(StrongroomError) as refusal:
            verify_quote(vector.raw, Collateral.from_json(path.read_text()), INTEL_ROOT, vector.now)
        assert refusal.value.code in {
            "quote.fmspc_mismatch",
            "collateral.wrong_tee",
            "collateral.unsupported_version",
        }
