"""Attacks on attestation and release, by name. Each is refused, and none gets an answer it could learn from."""

import base64
import json
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import sqlalchemy as sa
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from strongroom.attestation.policy import EnclaveIdentity, SignerIdentity
from strongroom.broker.audit import AuditLog, Entry
from strongroom.broker.collateral import install_collateral
from strongroom.broker.tables import grants as grants_table
from strongroom.broker.tables import keys as keys_table
from strongroom.errors import UnavailableError, VerificationError
from strongroom.formats.kbs import ResourcePath, binding
from strongroom.keys.envelope import SessionKey
from strongroom.platforms.simulated import SIMULATED_MR_SIGNER, SimulatedMachine

if TYPE_CHECKING:
    from tests.broker.conftest import Broker, Clock, Kbc, OpenBroker

PREFIX = "https://github.com/confidential-containers/kbs/errors/"


def assert_refused(answer: httpx.Response, status: int, kind: str, *findings: str) -> None:
    """The answer says exactly this, and nothing about the reason but the findings' codes."""
    assert answer.status_code == status, answer.text
    document = answer.json()
    assert document["type"] == PREFIX + kind
    assert document.get("findings", []) == list(findings)
    assert document.keys() <= {"type", "detail", "findings"}


def assert_not_attested(answer: httpx.Response) -> None:
    assert_refused(answer, 401, "AttestationError")
    assert answer.json()["detail"] == "attestation failed"


class TestChallenge:
    @pytest.mark.parametrize("version", ["0.1.1", "0.3.9", "0.4.1", "0.4", "1.0.0", "", 4, None])
    def test_refuses_unknown_version(self, kbc: "Kbc", version: object) -> None:
        assert_not_attested(kbc.auth(version=version))

    @pytest.mark.parametrize("tee", ["sample", "sampledevice", "sev", "SGX", "", None, ["sgx"]])
    def test_refuses_unsupported_tee(self, kbc: "Kbc", tee: object) -> None:
        assert_not_attested(kbc.auth(tee=tee))

    @pytest.mark.parametrize(
        "body",
        [b"", b"[]", b"null", b"{", b"\xff", b'{"version":"0.4.0"}', b"[" * 20_000, b'{"a":1,"a":2}', b'{"a":NaN}'],
    )
    def test_refuses_malformed_request(self, kbc: "Kbc", body: bytes) -> None:
        assert_not_attested(kbc.http.post("/kbs/v0/auth", content=body))

    def test_refuses_replayed_nonce(self, kbc: "Kbc") -> None:
        evidence = kbc.evidence(kbc.nonce())
        assert kbc.send(evidence).status_code == 200
        assert_not_attested(kbc.send(evidence))

    def test_refuses_nonce_of_another_session(self, kbc: "Kbc", granted: "Broker") -> None:
        evidence = kbc.evidence(kbc.nonce())
        kbc.auth()  # the cookie is now another session's
        assert_not_attested(kbc.send(evidence))
        assert granted.events()[-1]["findings"][0]["code"] == "evidence.nonce"

    def test_refuses_stale_nonce(self, kbc: "Kbc", clock: "Clock") -> None:
        evidence = kbc.evidence(kbc.nonce())
        clock.advance(91)
        assert_not_attested(kbc.send(evidence))

    def test_accepts_nonce_just_in_time(self, kbc: "Kbc", clock: "Clock") -> None:
        evidence = kbc.evidence(kbc.nonce())
        clock.advance(89)
        assert kbc.send(evidence).status_code == 200

    def test_a_failed_attempt_uses_up_the_challenge(self, kbc: "Kbc") -> None:
        evidence = kbc.evidence(kbc.nonce())
        assert_not_attested(kbc.http.post("/kbs/v0/attest", content=b"{}"))
        assert_not_attested(kbc.send(evidence))

    def test_refuses_evidence_without_a_session(self, kbc: "Kbc") -> None:
        evidence = kbc.evidence(kbc.nonce())
        kbc.http.cookies.clear()
        assert_not_attested(kbc.send(evidence))

    @pytest.mark.parametrize("cookie", ["", "x" * 32, "0" * 31, "0" * 32, "../" * 10, "0" * 5000])
    def test_refuses_invented_session(self, kbc: "Kbc", cookie: str) -> None:
        evidence = kbc.evidence(kbc.nonce())
        kbc.http.cookies.clear()
        kbc.http.headers["cookie"] = f"kbs-session-id={cookie}"
        assert_not_attested(kbc.send(evidence))

    def test_refuses_two_session_cookies(self, kbc: "Kbc") -> None:
        evidence = kbc.evidence(kbc.nonce())
        session = kbc.http.cookies["kbs-session-id"]
        kbc.http.cookies.clear()
        kbc.http.headers["cookie"] = f"kbs-session-id={session}; kbs-session-id={'0' * 32}"
        assert_not_attested(kbc.send(evidence))

    def test_an_attested_session_is_not_attested_again_with_old_evidence(self, kbc: "Kbc") -> None:
        evidence = kbc.evidence(kbc.nonce())
        first = kbc.send(evidence)
        second = kbc.send(evidence)
        assert first.status_code == 200
        assert "token" not in second.json()


class TestEvidence:
    def test_refuses_quote_bound_to_another_key(self, kbc: "Kbc", granted: "Broker") -> None:
        nonce = kbc.nonce()
        evidence = kbc.evidence(nonce, binding(nonce, SessionKey.generate().public))
        assert_not_attested(kbc.send(evidence))
        assert granted.events()[-1]["findings"][0]["code"] == "binding.report_data"

    def test_refuses_quote_bound_to_another_nonce(self, kbc: "Kbc") -> None:
        nonce = kbc.nonce()
        other = base64.b64encode(bytes(32)).decode()
        assert_not_attested(kbc.send(kbc.evidence(nonce, binding(other, kbc.key.public))))

    def test_refuses_exchanged_public_key(self, kbc: "Kbc") -> None:
        evidence = kbc.evidence(kbc.nonce())
        evidence["runtime-data"]["tee-pubkey"] = SessionKey.generate().public.members
        assert_not_attested(kbc.send(evidence))

    def test_refuses_extra_member_slipped_into_the_public_key(self, kbc: "Kbc") -> None:
        evidence = kbc.evidence(kbc.nonce())
        evidence["runtime-data"]["tee-pubkey"] = kbc.key.public.members | {"kid": "x"}
        assert_not_attested(kbc.send(evidence))

    def test_refuses_non_zero_tail_of_the_report_data(self, kbc: "Kbc") -> None:
        nonce = kbc.nonce()
        good = binding(nonce, kbc.key.public)
        assert good.endswith(bytes(16))
        assert_not_attested(kbc.send(kbc.evidence(nonce, good[:-1] + b"\x01")))

    def test_refuses_tampered_quote(self, kbc: "Kbc") -> None:
        for position in (50, 112, 368, 440, 700, 1000):
            evidence = kbc.evidence(kbc.nonce())
            primary = evidence["tee-evidence"]["primary_evidence"]
            quote = bytearray(base64.b64decode(primary["quote"]))
            quote[position] ^= 1
            primary["quote"] = base64.b64encode(quote).decode()
            assert_not_attested(kbc.send(evidence))

    def test_refuses_quote_of_a_machine_it_does_not_know(self, kbc: "Kbc", stranger_machine: SimulatedMachine) -> None:
        kbc.platform = stranger_machine.platform(mr_enclave=bytes(range(32)), isv_prod_id=1, isv_svn=1)
        assert_not_attested(kbc.attest())

    def test_refuses_simulated_platform_when_not_allowed(
        self, open_broker: "OpenBroker", granted: "Broker", kbc: "Kbc"
    ) -> None:
        # The same folder, root, collateral and grant: only the setting differs.
        strict = open_broker(allow_simulated=False)
        kbc.http = strict.http
        assert_not_attested(kbc.attest())
        denied = strict.events()[-1]
        assert (denied["decision"], denied["findings"][0]["code"]) == ("deny", "collateral.none")

    def test_refuses_simulated_machine_even_with_its_collateral_among_intels(
        self, open_broker: "OpenBroker", granted: "Broker", kbc: "Kbc", machine: SimulatedMachine
    ) -> None:
        install_collateral(granted.files.collateral, "intel", machine.collateral().encode())
        kbc.http = open_broker(allow_simulated=False).http
        assert_not_attested(kbc.attest())

    def test_refuses_simulated_platform_when_no_grant_accepts_it(self, kbc: "Kbc", granted: "Broker") -> None:
        granted.add_grant(accept_simulated=False)
        assert_refused(kbc.attest(), 403, "PolicyDeny", "simulated.refused")

    def test_refuses_evidence_for_another_tee_than_announced(self, kbc: "Kbc", granted: "Broker") -> None:
        nonce = kbc.nonce(tee="tdx")
        assert_not_attested(kbc.send(kbc.evidence(nonce)))
        assert granted.events()[-1]["findings"][0]["code"] == "evidence.tee"

    @pytest.mark.parametrize(
        "change",
        [
            {"x": base64.urlsafe_b64encode(bytes(32)).rstrip(b"=").decode()},  # not on the curve
            {"crv": "P-224"},
            {"alg": "dir"},
            {"alg": "ECDH-ES"},
            {"alg": "RSA1_5"},
            {"kty": "oct", "k": "AAAA"},
            {"d": "AAAA"},
            {"x": ""},
            {"x": 7},
        ],
    )
    def test_refuses_unusable_public_key(self, kbc: "Kbc", change: dict[str, Any]) -> None:
        evidence = kbc.evidence(kbc.nonce())
        evidence["runtime-data"]["tee-pubkey"] = kbc.key.public.members | change
        assert_not_attested(kbc.send(evidence))

    @pytest.mark.parametrize("quote", ["", "!!!", "QUJD", base64.b64encode(bytes(5000)).decode(), "A" * 60_000])
    def test_refuses_what_is_not_a_quote(self, kbc: "Kbc", quote: str) -> None:
        evidence = kbc.evidence(kbc.nonce())
        evidence["tee-evidence"]["primary_evidence"]["quote"] = quote
        assert_not_attested(kbc.send(evidence))

    def test_refuses_unsigned_sample_evidence(self, kbc: "Kbc") -> None:
        nonce = kbc.nonce()
        evidence = kbc.evidence(nonce)
        report = base64.b64encode(binding(nonce, kbc.key.public)).decode()
        evidence["tee-evidence"]["primary_evidence"] = {"svn": "1", "report_data": report}
        assert_not_attested(kbc.send(evidence))

    def test_the_verifier_never_sees_evidence_with_a_wrong_nonce(self, kbc: "Kbc", granted: "Broker") -> None:
        evidence = kbc.evidence(kbc.nonce())
        kbc.auth()
        kbc.send(evidence)
        assert granted.verifier.quotes == []


ODD_VALUES: tuple[Any, ...] = (None, True, 7, -1, 1e300, "", "A", "\ud800", "x" * 5000, [], ["x"], {}, {"x": {"y": []}})


def places(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every place inside a JSON object."""
    inside = (
        [place for name in value for place in places(value[name], (*path, name))] if isinstance(value, dict) else []
    )
    return [path, *inside]


def with_value(value: Any, path: tuple[str, ...], odd: Any) -> Any:
    return odd if not path else value | {path[0]: with_value(value[path[0]], path[1:], odd)}


def test_any_odd_value_at_any_place_of_the_evidence_is_a_refusal_not_a_bug(kbc: "Kbc", granted: "Broker") -> None:
    template = kbc.evidence(kbc.nonce())
    for place in places(template):
        for odd in ODD_VALUES:
            kbc.auth()
            answer = kbc.http.post("/kbs/v0/attest", content=json.dumps(with_value(template, place, odd)).encode())
            assert answer.status_code == 401, (place, odd, answer.text)
            granted.parts.rate._buckets.clear()
    assert len(places(template)) > 10
    assert {event["decision"] for event in granted.events() if event["event"] == "attest"} == {"deny"}


class TestPolicy:
    def test_refuses_changed_code(self, kbc: "Kbc", granted: "Broker", machine: SimulatedMachine) -> None:
        kbc.platform = machine.platform(mr_enclave=bytes(32), isv_prod_id=1, isv_svn=1)
        assert_refused(kbc.attest(workload="loan-train"), 403, "PolicyDeny", "measurement.mr_enclave")
        logged = granted.events()[-1]
        assert (logged["event"], logged["decision"], logged["name"]) == ("attest", "deny", "loan-train")
        assert "expected" in logged["findings"][0]["detail"]

    def test_refuses_debug_enclave(self, kbc: "Kbc", machine: SimulatedMachine) -> None:
        kbc.platform = machine.platform(mr_enclave=bytes(range(32)), isv_prod_id=1, isv_svn=1, debug=True)
        answer = kbc.attest()
        assert answer.status_code in {401, 403}
        assert "token" not in answer.json()

    def test_refuses_older_security_version(self, kbc: "Kbc", granted: "Broker") -> None:
        granted.add_grant(measurements=(SignerIdentity(SIMULATED_MR_SIGNER, 1, 2),))
        assert_refused(kbc.attest(), 403, "PolicyDeny", "measurement.isv_svn")

    def test_tells_nothing_when_nothing_is_granted(self, kbc: "Kbc", granted: "Broker", clock: "Clock") -> None:
        granted.parts.grants.revoke("loan-train", clock())
        assert_refused(kbc.attest(), 403, "PolicyDeny", "grant.none")

    def test_hint_decides_nothing(self, kbc: "Kbc", granted: "Broker") -> None:
        granted.add_grant("other", measurements=(EnclaveIdentity(bytes(32)),))
        # Saying "other" does not make it other: what its own grant gives is still all it gets.
        token = kbc.attest(workload="other").json()["token"]
        assert kbc.get(token=token).status_code == 200

    @pytest.mark.parametrize("hint", ["../x", "A", "x" * 64, 7, None, {"a": 1}, "\ud800"])
    def test_odd_hint_is_ignored(self, kbc: "Kbc", hint: object) -> None:
        answer = kbc.http.post(
            "/kbs/v0/auth", content=json.dumps({"version": "0.4.0", "tee": "sgx", "extra-params": {"workload": hint}})
        )
        assert answer.status_code == 200

    def test_hint_chooses_whose_findings_are_told(
        self, kbc: "Kbc", granted: "Broker", machine: SimulatedMachine
    ) -> None:
        granted.add_grant("other", measurements=(EnclaveIdentity(bytes(32)),), accept_simulated=False)
        kbc.platform = machine.platform(mr_enclave=b"\x07" * 32, isv_prod_id=1, isv_svn=1)
        told = kbc.attest(workload="other").json()["findings"]
        assert told == ["measurement.mr_enclave", "simulated.refused"]

    def test_refuses_expired_grant(self, kbc: "Kbc", granted: "Broker", clock: "Clock") -> None:
        grant = granted.parts.grants.all()[0]
        ended = type(grant)(
            name=grant.name, policy=grant.policy, keys=grant.keys, not_after=clock() + timedelta(seconds=10)
        )
        granted.parts.grants.add(ended, clock(), replace=True)
        token = kbc.token()
        clock.advance(10)
        assert_refused(kbc.get(token=token), 403, "PolicyDeny", "grant.expired")
        assert_refused(kbc.attest(), 403, "PolicyDeny", "grant.expired")

    def test_refuses_revoked_grant_for_tokens_already_out(self, kbc: "Kbc", granted: "Broker", clock: "Clock") -> None:
        token = kbc.token()
        assert kbc.get(token=token).status_code == 200
        granted.parts.grants.revoke("loan-train", clock())
        assert_refused(kbc.get(token=token), 403, "PolicyDeny", "grant.none")
        assert_refused(kbc.get(), 403, "PolicyDeny", "grant.none")

    def test_narrowed_grant_counts_at_once(self, kbc: "Kbc", granted: "Broker") -> None:
        token = kbc.token()
        granted.add_grant(measurements=(EnclaveIdentity(bytes(32)),))
        assert_refused(kbc.get(token=token), 403, "PolicyDeny", "measurement.mr_enclave")

    def test_refuses_key_of_another_workload(self, kbc: "Kbc", granted: "Broker", clock: "Clock") -> None:
        other = ResourcePath("loan", "key", "other")
        granted.parts.keyring.create(other, bytes(16), clock())
        granted.add_grant("other", (other,), measurements=(EnclaveIdentity(bytes(32)),))
        answer = kbc.get(other, token=kbc.token())
        assert answer.status_code == 403
        assert "ciphertext" not in answer.json()

    def test_existing_and_missing_keys_look_alike_to_who_has_no_grant(
        self, kbc: "Kbc", granted: "Broker", clock: "Clock"
    ) -> None:
        granted.parts.keyring.create(ResourcePath("loan", "key", "other"), bytes(16), clock())
        token = kbc.token()
        existing, missing = kbc.get("loan/key/other", token=token), kbc.get("loan/key/absent", token=token)
        assert (existing.status_code, existing.json()) == (missing.status_code, missing.json())

    def test_findings_never_hold_values(self, kbc: "Kbc", machine: SimulatedMachine) -> None:
        kbc.platform = machine.platform(mr_enclave=b"\x07" * 32, isv_prod_id=1, isv_svn=1)
        answer = kbc.attest()
        assert bytes(range(32)).hex() not in answer.text
        assert all(re.fullmatch(r"[a-z_.]+", code) for code in answer.json()["findings"])

    def test_refuses_tcb_status_that_is_not_named(self, kbc: "Kbc", granted: "Broker") -> None:
        granted.add_grant(tcb_statuses=frozenset({"OutOfDate"}))
        assert_refused(kbc.attest(), 403, "PolicyDeny", "tcb.status")


def forge(claims: dict[str, Any], header: dict[str, Any], key: Any) -> str:
    return jwt.encode(header, claims, key, algorithms=[header["alg"]])


def decode(token: str, part: int) -> dict[str, Any]:
    text = token.split(".")[part]
    value: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return value


def encode(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


class TestToken:
    def test_stolen_token_yields_only_ciphertext(self, kbc: "Kbc", granted: "Broker") -> None:
        answer = kbc.get(token=kbc.token())
        assert granted.key not in answer.content
        assert base64.b64encode(granted.key) not in answer.content
        with pytest.raises(VerificationError):
            SessionKey.generate().decrypt(answer.json())

    def test_refuses_expired_token(self, kbc: "Kbc", clock: "Clock") -> None:
        token = kbc.token()
        clock.advance(299)
        assert kbc.get(token=token).status_code == 200
        clock.advance(1)
        assert_refused(kbc.get(token=token), 401, "TokenVerifierError")
        assert_refused(kbc.get(), 401, "TokenVerifierError")

    def test_refuses_alg_none(self, kbc: "Kbc") -> None:
        token = kbc.token()
        for alg in ("none", "None", "NONE", ""):
            assert_refused(
                kbc.get(token=f"{encode({'alg': alg, 'typ': 'JWT'})}.{token.split('.')[1]}."), 401, "TokenVerifierError"
            )

    def test_refuses_tampered_token(self, kbc: "Kbc") -> None:
        header, _, signature = (token := kbc.token()).split(".")
        longer = decode(token, 1) | {"exp": 2**40}
        assert_refused(kbc.get(token=f"{header}.{encode(longer)}.{signature}"), 401, "TokenVerifierError")

    def test_refuses_signature_confusion_with_the_public_key_as_hmac_secret(
        self, kbc: "Kbc", granted: "Broker"
    ) -> None:
        token = kbc.token()
        public = granted.parts.signer._key.as_pem(private=False)
        forged = forge(decode(token, 1), {"alg": "HS256", "typ": "JWT"}, OctKey.import_key(public.hex()))
        assert_refused(kbc.get(token=forged), 401, "TokenVerifierError")

    @pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c", "kid"])
    def test_refuses_token_that_brings_its_own_key(self, kbc: "Kbc", name: str) -> None:
        token = kbc.token()
        key = ECKey.generate_key("P-256", auto_kid=False)
        brought: Any = key.as_dict(private=False) if name == "jwk" else "https://attacker.example/keys"
        header = {**decode(token, 0), name: [brought] if name == "x5c" else brought}
        assert_refused(kbc.get(token=forge(decode(token, 1), header, key)), 401, "TokenVerifierError")

    def test_refuses_own_signature_on_a_token_it_does_not_remember(self, kbc: "Kbc", granted: "Broker") -> None:
        # Even the signing key is not enough: the broker remembers what it has issued.
        token = kbc.token()
        forged = forge(decode(token, 1) | {"jti": "0" * 32}, dict(decode(token, 0)), granted.parts.signer._key)
        assert_refused(kbc.get(token=forged), 401, "TokenVerifierError")

    def test_refuses_token_of_another_broker(self, kbc: "Kbc", granted: "Broker") -> None:
        token = kbc.token()
        forged = forge(decode(token, 1) | {"iss": "0" * 32}, dict(decode(token, 0)), granted.parts.signer._key)
        assert_refused(kbc.get(token=forged), 401, "TokenVerifierError")

    def test_refuses_owner_statement_as_token(self, kbc: "Kbc", granted: "Broker") -> None:
        statement = granted.sign("GET", f"/kbs/v0/resource/{granted.key_path}")
        assert_refused(kbc.get(token=statement), 401, "TokenVerifierError")

    def test_refuses_workload_token_as_owner(self, kbc: "Kbc", granted: "Broker") -> None:
        token = kbc.token()
        assert granted.owner("GET", "/v1/keys", token=token).status_code == 401
        assert granted.owner("DELETE", f"/kbs/v0/resource/{granted.key_path}", token=token).status_code == 401
        assert kbc.get(token=token).status_code == 200

    @pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic abc", "Bearer a b", "Bearer é"])
    def test_refuses_odd_authorization(self, kbc: "Kbc", granted: "Broker", header: str) -> None:
        kbc.token()
        answer = granted.http.get(
            f"/kbs/v0/resource/{granted.key_path}", headers=[(b"authorization", header.encode("latin-1"))]
        )
        assert answer.status_code == 401

    def test_refuses_two_authorizations(self, kbc: "Kbc", granted: "Broker") -> None:
        bearer = f"Bearer {kbc.token()}"
        headers = [("authorization", bearer), ("authorization", bearer)]
        assert granted.http.get(f"/kbs/v0/resource/{granted.key_path}", headers=headers).status_code == 401

    def test_tokens_are_forgotten_at_a_restart(self, kbc: "Kbc", open_broker: "OpenBroker") -> None:
        token = kbc.token()
        kbc.http = open_broker().http
        assert_refused(kbc.get(token=token), 401, "TokenVerifierError")


class FailingLog:
    """An audit log that fails once it is told to."""

    def __init__(self, inner: AuditLog) -> None:
        self.inner = inner
        self.broken = False

    def append(self, entry: Entry, now: datetime) -> int:
        if self.broken:
            raise UnavailableError("disk full", code="test.disk")
        return self.inner.append(entry, now)

    def append_within(self, connection: sa.Connection, entry: Entry, now: datetime) -> int:
        if self.broken:
            raise UnavailableError("disk full", code="test.disk")
        return self.inner.append_within(connection, entry, now)


@pytest.fixture
def failing(open_broker: "OpenBroker", granted: "Broker") -> "tuple[Broker, FailingLog]":
    logs: list[FailingLog] = []

    def wrap(inner: AuditLog) -> AuditLog:
        logs.append(FailingLog(inner))
        return logs[-1]

    return open_broker(audit=wrap), logs[0]


class TestLogFailure:
    def test_releases_nothing(self, kbc: "Kbc", failing: "tuple[Broker, FailingLog]") -> None:
        broker, log = failing
        kbc.http = broker.http
        token = kbc.token()
        log.broken = True
        answer = kbc.get(token=token)
        assert_refused(answer, 503, "Unavailable")
        log.broken = False
        assert kbc.get(token=token).status_code == 200

    def test_attests_nobody(self, kbc: "Kbc", failing: "tuple[Broker, FailingLog]") -> None:
        broker, log = failing
        kbc.http = broker.http
        log.broken = True
        assert_refused(kbc.attest(), 503, "Unavailable")
        log.broken = False
        # Not even through the session's cookie.
        assert_refused(kbc.get(), 401, "TokenVerifierError")

    @pytest.mark.parametrize(
        ("method", "target", "body"),
        [
            ("POST", "/v1/keys", b'{"path":"a/b/c","bits":128}'),
            ("DELETE", "/v1/keys/loan/key/book", b""),
            ("DELETE", "/v1/grants/loan-train", b""),
            ("POST", "/kbs/v0/resource/loan/key/book", b"new"),
            ("DELETE", "/kbs/v0/resource/loan/key/book", b""),
        ],
    )
    def test_changes_nothing(self, failing: "tuple[Broker, FailingLog]", method: str, target: str, body: bytes) -> None:
        broker, log = failing
        before = (broker.parts.keyring.list(), broker.parts.grants.all())
        log.broken = True
        assert broker.owner(method, target, body).status_code == 503
        assert (broker.parts.keyring.list(), broker.parts.grants.all()) == before

    def test_exports_nothing(self, failing: "tuple[Broker, FailingLog]") -> None:
        broker, log = failing
        log.broken = True
        session = SessionKey.generate()
        body = json.dumps({"path": "loan/key/book", "version": None, "recipient": session.public.members}).encode()
        answer = broker.owner("POST", "/v1/keys/export", body)
        assert answer.status_code == 503
        assert "envelope" not in answer.json()


def edit(broker: "Broker", *statements: Any) -> None:
    """Change the database behind the broker's back."""
    with broker.parts.store.writing() as connection:
        for statement in statements:
            connection.execute(statement)


class TestDatabase:
    def test_refuses_swapped_key_rows(self, kbc: "Kbc", granted: "Broker", clock: "Clock") -> None:
        granted.parts.keyring.create(ResourcePath("loan", "key", "other"), b"other key, 16 b.", clock())
        row = sa.select(keys_table.c.wrapped).where(keys_table.c.path == "loan/key/other").scalar_subquery()
        edit(granted, sa.update(keys_table).where(keys_table.c.path == "loan/key/book").values(wrapped=row))
        answer = kbc.get(token=kbc.token())
        assert_refused(answer, 500, "InternalError")

    def test_refuses_key_row_renumbered_as_newest(self, kbc: "Kbc", granted: "Broker", clock: "Clock") -> None:
        granted.parts.keyring.create(granted.key_path, b"second", clock(), new_version=True)
        edit(
            granted,
            sa.delete(keys_table).where(keys_table.c.version == 2),
            sa.update(keys_table).values(version=2),
        )
        assert_refused(kbc.get(token=kbc.token()), 500, "InternalError")

    def test_refuses_grant_row_written_by_hand(self, kbc: "Kbc", granted: "Broker", machine: SimulatedMachine) -> None:
        grant = granted.parts.grants.all()[0]
        forged = json.dumps(grant.to_json() | {"keys": ["loan/key/other"]}).encode()
        edit(granted, sa.update(grants_table).values(wrapped=forged))
        assert_refused(kbc.attest(), 500, "InternalError")

    def test_refuses_grant_row_under_another_name(self, kbc: "Kbc", granted: "Broker") -> None:
        edit(granted, sa.update(grants_table).values(name="other"))
        assert_refused(kbc.attest(), 500, "InternalError")

    def test_refuses_database_with_another_root_key(self, granted: "Broker", open_broker: "OpenBroker") -> None:
        granted.files.root_key.write_bytes(bytes(32))
        with pytest.raises(VerificationError):
            open_broker()

    def test_refuses_database_of_another_broker(self, granted: "Broker", open_broker: "OpenBroker") -> None:
        with pytest.raises(VerificationError):
            open_broker(broker_id="0" * 32)


class TestLimits:
    def test_refuses_oversized_body(self, open_broker: "OpenBroker") -> None:
        broker = open_broker(max_body_bytes=2048)
        for target in ("/kbs/v0/auth", "/v1/keys"):
            answer = broker.owner("POST", target, bytes(2049))
            assert answer.status_code == 413

    def test_refuses_oversized_quote_before_it_is_parsed(self, kbc: "Kbc", granted: "Broker") -> None:
        evidence = kbc.evidence(kbc.nonce())
        evidence["tee-evidence"]["primary_evidence"]["quote"] = base64.b64encode(bytes(16 * 1024 + 1)).decode()
        assert_not_attested(kbc.send(evidence))
        assert granted.verifier.quotes == []

    def test_bounds_open_sessions(self, open_broker: "OpenBroker", clock: "Clock") -> None:
        broker = open_broker(max_sessions=3)
        message = {"version": "0.4.0", "tee": "sgx", "extra-params": {}}
        for _ in range(3):
            assert broker.http.post("/kbs/v0/auth", json=message).status_code == 200
        full = broker.http.post("/kbs/v0/auth", json=message)
        assert_refused(full, 503, "Unavailable")
        assert full.headers["retry-after"] == "1"
        clock.advance(91)
        assert broker.http.post("/kbs/v0/auth", json=message).status_code == 200

    def test_bounds_live_tokens(self, open_broker: "OpenBroker", granted: "Broker", kbc: "Kbc", clock: "Clock") -> None:
        kbc.http = open_broker(max_tokens=1).http
        assert kbc.attest().status_code == 200
        assert_refused(kbc.attest(), 503, "Unavailable")
        clock.advance(300)
        assert kbc.attest().status_code == 200

    def test_bounds_the_rate_of_one_address(self, open_broker: "OpenBroker", clock: "Clock") -> None:
        broker = open_broker(request_burst=5, requests_per_s=1)
        message = {"version": "0.4.0", "tee": "sgx", "extra-params": {}}
        answers = [broker.http.post("/kbs/v0/auth", json=message).status_code for _ in range(6)]
        assert answers == [200] * 5 + [429]
        clock.advance(1)
        assert broker.http.post("/kbs/v0/auth", json=message).status_code == 200

    def test_header_does_not_change_the_address(self, open_broker: "OpenBroker") -> None:
        broker = open_broker(request_burst=1, requests_per_s=0.001)
        message = {"version": "0.4.0", "tee": "sgx", "extra-params": {}}
        answers = [
            broker.http.post("/kbs/v0/auth", json=message, headers={"X-Forwarded-For": f"10.0.0.{i}"}).status_code
            for i in range(2)
        ]
        assert answers == [200, 429]

    def test_bounds_verifications_at_once(self, open_broker: "OpenBroker", granted: "Broker", kbc: "Kbc") -> None:
        broker = open_broker(max_verifications=1)
        kbc.http = broker.http
        with broker.parts.desk._gate.enter():
            assert_refused(kbc.attest(), 503, "Unavailable")
        assert kbc.attest().status_code == 200
