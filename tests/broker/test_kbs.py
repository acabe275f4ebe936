"""The protocol as the reference client speaks it, recomputed here from its description where that is possible."""

import base64
import hashlib
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from jwcrypto import jwe, jwk

from strongroom.broker.collateral import install_collateral
from strongroom.formats.kbs import Attestation, TeePublicKey, binding
from strongroom.platforms.simulated import SimulatedMachine, SimulatedPlatform, Validity

if TYPE_CHECKING:
    from tests.broker.conftest import Broker, Clock, Kbc

pytestmark = pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)


def test_releases_a_key_for_a_token(kbc: "Kbc", granted: "Broker") -> None:
    answer = kbc.get(token=kbc.token())
    assert answer.status_code == 200, answer.text
    assert kbc.key.decrypt(answer.json()) == granted.key


def test_releases_a_key_for_the_session_cookie(kbc: "Kbc", granted: "Broker") -> None:
    kbc.token()
    assert kbc.key.decrypt(kbc.get().json()) == granted.key


def test_challenge_has_the_shape_of_the_protocol(kbc: "Kbc") -> None:
    answer = kbc.auth(**{"extra-params": {"supported-hash-algorithms": ["sha384", "sha512"]}})
    assert answer.json().keys() == {"nonce", "extra-params"}
    assert answer.json()["extra-params"] == ""
    assert len(base64.b64decode(answer.json()["nonce"], validate=True)) == 32


def test_cookie_is_bound_to_tls_and_hidden_from_scripts(kbc: "Kbc") -> None:
    name, *attributes = kbc.auth().headers["set-cookie"].split("; ")
    assert name.startswith("kbs-session-id=")
    assert len(name.removeprefix("kbs-session-id=")) == 32
    assert {"Secure", "HttpOnly", "SameSite=strict", "Path=/kbs/v0"} <= set(attributes)
    assert not any(attribute.startswith("Domain") for attribute in attributes)


def test_two_challenges_differ(kbc: "Kbc") -> None:
    assert kbc.nonce() != kbc.nonce()


def test_independent_client_with_jwcrypto_gets_the_key(granted: "Broker", platform: SimulatedPlatform) -> None:
    # Nothing of strongroom.formats.kbs or strongroom.keys.envelope is used here.
    key = jwk.JWK.generate(kty="EC", crv="P-256")
    public = json.loads(key.export_public()) | {"alg": "ECDH-ES+A256KW"}
    public.pop("kid", None)
    challenge = granted.http.post("/kbs/v0/auth", json={"version": "0.4.0", "tee": "sgx", "extra-params": ""}).json()
    runtime = {"additional-evidence": "", "nonce": challenge["nonce"], "tee-pubkey": public}
    canonical = json.dumps(runtime, sort_keys=True, separators=(",", ":")).encode()
    quote = platform.quote(hashlib.sha384(canonical).digest() + bytes(16))
    attestation = {
        "runtime-data": {"nonce": challenge["nonce"], "tee-pubkey": public},
        "tee-evidence": {
            "primary_evidence": {"quote": base64.b64encode(quote).decode()},
            "additional_evidence": "",
        },
    }
    token = granted.http.post("/kbs/v0/attest", json=attestation).json()["token"]
    answer = granted.http.get(
        f"/kbs/v0/resource/{granted.key_path}", headers={"Authorization": f"Bearer {token}"}
    ).json()
    assert answer.keys() == {"protected", "encrypted_key", "iv", "ciphertext", "tag"}
    protected = json.loads(base64.urlsafe_b64decode(answer["protected"] + "=="))
    assert (protected["alg"], protected["enc"]) == ("ECDH-ES+A256KW", "A256GCM")
    assert protected["epk"].keys() >= {"kty", "crv", "x", "y"}
    opened = jwe.JWE()
    opened.deserialize(json.dumps(answer), key)
    assert opened.payload == granted.key


def claims_of(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


def test_token_says_what_was_proved(kbc: "Kbc", granted: "Broker", clock: "Clock") -> None:
    nonce = kbc.nonce()
    token = kbc.send(kbc.evidence(nonce)).json()["token"]
    claims = claims_of(token)
    grant = granted.parts.grants.all()[0]
    cpu = claims["submods"]["cpu0"]
    assert claims["iss"] == granted.parts.settings.broker_id
    assert claims["eat_nonce"] == nonce
    assert claims["exp"] - claims["iat"] == 300
    assert claims["iat"] == int(clock().timestamp())
    assert claims["cnf"] == {"jwk": kbc.key.public.members}
    annotated = cpu["ear.veraison.annotated-evidence"]["runtime_data_claims"]
    assert annotated == {"nonce": nonce, "tee-pubkey": kbc.key.public.members}
    assert cpu["ear.appraisal-policy-id"] == grant.policy.digest.hex()
    assert cpu["strongroom.evidence"]["mr_enclave"] == bytes(range(32)).hex()


def test_token_of_a_simulated_platform_is_never_affirming(kbc: "Kbc") -> None:
    cpu = claims_of(kbc.token())["submods"]["cpu0"]
    assert cpu["strongroom.simulated"] is True
    assert cpu["ear.status"] == "contraindicated"


def test_token_and_log_hold_no_platform_identifier(kbc: "Kbc", granted: "Broker", machine: SimulatedMachine) -> None:
    text = json.dumps(claims_of(kbc.token())) + json.dumps(granted.events())
    assert machine.facts.platform_instance_id is not None
    for identifier in (machine.facts.ppid, machine.facts.platform_instance_id):
        assert identifier.hex() not in text


def test_token_ends_with_the_collateral(
    kbc: "Kbc", granted: "Broker", machine: SimulatedMachine, clock: "Clock"
) -> None:
    short = Validity(clock() - timedelta(hours=1), clock() + timedelta(seconds=30))
    install_collateral(granted.files.collateral, "simulated", machine.collateral(validity=short).encode())
    claims = claims_of(kbc.token())
    assert claims["exp"] == int(short.end.timestamp())


def test_workload_with_an_rsa_key_gets_the_key(granted: "Broker", platform: SimulatedPlatform) -> None:
    key = jwk.JWK.generate(kty="RSA", size=2048)
    public = {"alg": "RSA-OAEP-256"} | {k: v for k, v in json.loads(key.export_public()).items() if k in "kty n e"}
    nonce = granted.http.post("/kbs/v0/auth", json={"version": "0.4.0", "tee": "sgx", "extra-params": {}}).json()[
        "nonce"
    ]
    pubkey = TeePublicKey.parse(public)
    attestation = Attestation(nonce, pubkey, platform.quote(binding(nonce, pubkey))).to_json()
    assert granted.http.post("/kbs/v0/attest", json=attestation).status_code == 200
    opened = jwe.JWE()
    opened.deserialize(granted.http.get(f"/kbs/v0/resource/{granted.key_path}").text, key)
    assert opened.payload == granted.key


def test_bearer_token_goes_before_the_cookie(kbc: "Kbc") -> None:
    kbc.token()
    assert kbc.get(token="a.b.c").status_code == 401


def test_owner_stores_and_deletes_a_resource_through_the_protocol(kbc: "Kbc", granted: "Broker") -> None:
    target = f"/kbs/v0/resource/{granted.key_path}"
    assert granted.owner("POST", target, b"another value").status_code == 200
    assert kbc.key.decrypt(kbc.get(token=kbc.token()).json()) == b"another value"
    assert granted.owner("DELETE", target).status_code == 200
    answer = kbc.get(token=kbc.token())
    assert (answer.status_code, answer.json()["findings"]) == (403, ["key.unknown"])


def test_errors_are_problem_documents_of_the_protocol(kbc: "Kbc") -> None:
    answer = kbc.get()
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "https://github.com/confidential-containers/kbs/errors/TokenNotFound",
        "detail": "attest first",
    }


def test_answers_are_never_cached(kbc: "Kbc") -> None:
    for answer in (kbc.auth(), kbc.attest(), kbc.get(), kbc.http.get("/nothing"), kbc.http.get("/healthz")):
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_needs_no_token(broker: "Broker", path: str) -> None:
    assert broker.http.get(path).status_code == 200


def test_decisions_are_logged_in_order(kbc: "Kbc", granted: "Broker") -> None:
    kbc.get(token=kbc.token())
    attest, release = granted.events()[-2:]
    assert (attest["event"], attest["decision"], attest["name"]) == ("attest", "allow", "loan-train")
    assert (release["event"], release["decision"], release["path"]) == ("release", "allow", f"{granted.key_path}@1")
    assert release["who"]["simulated"] is True
    assert release["who"]["mr_enclave"] == bytes(range(32)).hex()
    assert release["policy_digest"] == granted.parts.grants.all()[0].policy.digest.hex()
    assert len(release["collateral_digest"]) == 64
