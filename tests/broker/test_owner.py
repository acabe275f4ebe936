"""The owner's API: what it does, and every way somebody else could try to use it."""

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey

from strongroom.broker.client import OwnerClient
from strongroom.broker.folder import write_new
from strongroom.broker.owner import ALGORITHM, TYPE, OwnerKey, SignedRequest
from strongroom.broker.owner_gate import OwnerGate
from strongroom.errors import (
    ConfigurationError,
    FormatError,
    KeyReleaseError,
    UnavailableError,
    VerificationError,
    WouldOverwrite,
)
from strongroom.formats.kbs import ResourcePath
from strongroom.keys.envelope import SessionKey

if TYPE_CHECKING:
    from tests.broker.conftest import Broker, Clock, OpenBroker

OTHER = ResourcePath("loan", "key", "other")
SECRET_MEMBERS = ("value", "wrapped", "key")


def post(broker: "Broker", target: str, body: object) -> Any:
    return broker.owner("POST", target, json.dumps(body).encode())


class TestKeys:
    @pytest.mark.parametrize(("bits", "size"), [(128, 16), (256, 32)])
    def test_broker_makes_a_key(self, broker: "Broker", bits: int, size: int) -> None:
        answer = post(broker, "/v1/keys", {"path": "loan/key/book", "bits": bits})
        assert answer.status_code == 201
        assert answer.json() == {"path": "loan/key/book", "version": 1, "size_bytes": size}
        assert len(broker.parts.keyring.read(broker.key_path)[1]) == size

    def test_two_made_keys_differ(self, broker: "Broker") -> None:
        for name in ("a", "b"):
            post(broker, "/v1/keys", {"path": f"loan/key/{name}", "bits": 128})
        values = {broker.parts.keyring.read(ResourcePath("loan", "key", name))[1] for name in ("a", "b")}
        assert len(values) == 2

    def test_owner_gives_a_key(self, broker: "Broker") -> None:
        value = base64.b64encode(b"given").decode()
        assert post(broker, "/v1/keys", {"path": "loan/key/book", "value": value}).status_code == 201
        assert broker.parts.keyring.read(broker.key_path) == (1, b"given")

    def test_refuses_to_replace_a_key(self, granted: "Broker") -> None:
        answer = post(granted, "/v1/keys", {"path": "loan/key/book", "bits": 128})
        assert (answer.status_code, answer.json()["code"]) == (409, "key.exists")
        assert granted.parts.keyring.read(granted.key_path) == (1, granted.key)

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"path": "loan/key/book"},
            {"path": "loan/key/book", "bits": 64},
            {"path": "loan/key/book", "bits": True},
            {"path": "loan/key/book", "bits": "128"},
            {"path": "loan/key/book", "bits": 128, "value": "AAAA"},
            {"path": "loan/key/book", "bits": 128, "more": 1},
            {"path": "loan/key/book", "value": ""},
            {"path": "loan/key/book", "value": "not base64!"},
            {"path": "loan/key/..", "bits": 128},
            {"path": "loan/key", "bits": 128},
            {"path": "/loan/key/book", "bits": 128},
            {"path": 7, "bits": 128},
            [],
        ],
    )
    def test_refuses_malformed_request(self, broker: "Broker", body: object) -> None:
        assert post(broker, "/v1/keys", body).status_code == 400
        assert broker.parts.keyring.list() == []

    def test_list_shows_no_values(self, granted: "Broker") -> None:
        answer = granted.owner("GET", "/v1/keys")
        (key,) = answer.json()["keys"]
        assert key.keys() == {"path", "version", "created", "size_bytes"}
        assert base64.b64encode(granted.key) not in answer.content

    def test_export_is_encrypted_and_logged(self, granted: "Broker") -> None:
        session = SessionKey.generate()
        body = {"path": "loan/key/book", "version": None, "recipient": session.public.members}
        answer = post(granted, "/v1/keys/export", body)
        assert session.decrypt(answer.json()["envelope"]) == granted.key
        assert granted.key not in answer.content
        assert granted.events()[-1]["event"] == "key.export"
        assert granted.events()[-1]["path"] == "loan/key/book@1"

    def test_export_of_an_older_version(self, granted: "Broker", clock: "Clock") -> None:
        granted.parts.keyring.create(granted.key_path, b"second", clock(), new_version=True)
        session = SessionKey.generate()
        for version, value in ((1, granted.key), (2, b"second"), (None, b"second")):
            body = {"path": "loan/key/book", "version": version, "recipient": session.public.members}
            assert session.decrypt(post(granted, "/v1/keys/export", body).json()["envelope"]) == value

    @pytest.mark.parametrize("change", [{"path": "a/b/c"}, {"version": 2}])
    def test_export_of_unknown_key(self, granted: "Broker", change: dict[str, object]) -> None:
        body = {"path": "loan/key/book", "version": 1, "recipient": SessionKey.generate().public.members} | change
        assert post(granted, "/v1/keys/export", body).status_code == 404

    @pytest.mark.parametrize("change", [{"version": 0}, {"version": "1"}, {"version": True}, {"recipient": {}}])
    def test_refuses_malformed_export(self, granted: "Broker", change: dict[str, object]) -> None:
        body = {"path": "loan/key/book", "version": 1, "recipient": SessionKey.generate().public.members} | change
        assert post(granted, "/v1/keys/export", body).status_code == 400

    def test_delete(self, granted: "Broker") -> None:
        assert granted.owner("DELETE", "/v1/keys/loan/key/book").status_code == 200
        assert granted.parts.keyring.list() == []
        assert granted.owner("DELETE", "/v1/keys/loan/key/book").status_code == 404
        assert granted.events()[-1]["event"] == "key.delete"


class TestGrants:
    def test_add_list_revoke(self, broker: "Broker") -> None:
        broker.add_grant()
        grant = broker.parts.grants.all()[0]
        assert broker.owner("DELETE", "/v1/grants/loan-train").status_code == 200
        answer = post(broker, "/v1/grants", {"grant": grant.to_json(), "replace": False})
        assert (answer.status_code, answer.json()["policy_digest"]) == (201, grant.policy.digest.hex())
        assert broker.owner("GET", "/v1/grants").json() == {"grants": [grant.to_json()]}

    def test_refuses_to_replace_silently(self, granted: "Broker") -> None:
        grant = granted.parts.grants.all()[0].to_json()
        assert post(granted, "/v1/grants", {"grant": grant, "replace": False}).status_code == 409
        assert post(granted, "/v1/grants", {"grant": grant, "replace": True}).status_code == 201

    def test_revoke_unknown(self, broker: "Broker") -> None:
        assert broker.owner("DELETE", "/v1/grants/nobody").status_code == 404

    @pytest.mark.parametrize(
        "change",
        [
            {"keys": []},
            {"keys": ["loan/key/*"]},
            {"keys": ["loan/key/a", "loan/key/a"]},
            {"keys": ["loan/key/.."]},
            {"operations": []},
            {"operations": ["release", "unwrap"]},
            {"name": "Loan"},
            {"name": "../x"},
            {"not_after": "tomorrow"},
            {"policy": {}},
            {"more": 1},
        ],
    )
    def test_refuses_malformed_grant(self, granted: "Broker", change: dict[str, object]) -> None:
        before = granted.parts.grants.all()
        grant = before[0].to_json() | change
        assert post(granted, "/v1/grants", {"grant": grant, "replace": True}).status_code == 400
        assert granted.parts.grants.all() == before

    @pytest.mark.parametrize("name", ["measurements", "tees", "tcb_statuses", "advisories", "min_tcb_eval_data_number"])
    def test_refuses_policy_that_leaves_something_unsaid(self, granted: "Broker", name: str) -> None:
        grant: Any = granted.parts.grants.all()[0].to_json()
        del grant["policy"][name]
        assert post(granted, "/v1/grants", {"grant": grant, "replace": True}).status_code == 400


ODD_VALUES: tuple[Any, ...] = (
    True,
    7,
    -1,
    2**70,
    1e300,
    "",
    "A",
    "\ud800",
    "x" * 5000,
    [],
    ["x"],
    {},
    {"x": {"y": []}},
)


def places(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every place inside a JSON object."""
    inside = (
        [place for name in value for place in places(value[name], (*path, name))] if isinstance(value, dict) else []
    )
    return [path, *inside]


def with_value(value: Any, path: tuple[str, ...], odd: Any) -> Any:
    return odd if not path else value | {path[0]: with_value(value[path[0]], path[1:], odd)}


def test_any_odd_value_at_any_place_of_a_request_is_no_bug(granted: "Broker") -> None:
    grant = granted.parts.grants.all()[0].to_json()
    requests = {
        "/v1/keys": {"path": "a/b/c", "value": "AAAA"},
        "/v1/keys/export": {"path": "loan/key/book", "version": 1, "recipient": SessionKey.generate().public.members},
        "/v1/grants": {"grant": grant, "replace": True},
    }
    for target, template in requests.items():
        for place in places(template):
            for odd in ODD_VALUES:
                answer = post(granted, target, with_value(template, place, odd))
                assert answer.status_code in {200, 201, 400, 404, 409}, (target, place, odd, answer.text)


class TestLog:
    def test_pages(self, granted: "Broker") -> None:
        first = granted.owner("GET", "/v1/log?after=0&limit=2").json()["records"]
        rest = granted.owner("GET", "/v1/log?after=2").json()["records"]
        assert [record["seq"] for record in first + rest] == list(range(1, len(granted.events()) + 1))

    @pytest.mark.parametrize("query", ["after=-1", "after=x", "limit=1e3", "more=1", "after=" + "9" * 20])
    def test_refuses_odd_query(self, granted: "Broker", query: str) -> None:
        assert granted.owner("GET", f"/v1/log?{query}").status_code == 400


ALL_ROUTES = [
    ("GET", "/v1/keys"),
    ("POST", "/v1/keys"),
    ("POST", "/v1/keys/export"),
    ("DELETE", "/v1/keys/loan/key/book"),
    ("GET", "/v1/grants"),
    ("POST", "/v1/grants"),
    ("DELETE", "/v1/grants/loan-train"),
    ("GET", "/v1/log"),
    ("POST", "/kbs/v0/resource/loan/key/book"),
    ("DELETE", "/kbs/v0/resource/loan/key/book"),
]


class TestStrangers:
    @pytest.mark.parametrize(("method", "target"), ALL_ROUTES)
    def test_no_route_answers_without_a_statement(self, granted: "Broker", method: str, target: str) -> None:
        answer = granted.http.request(method, target, content=b"{}")
        assert answer.status_code == 401
        assert answer.json()["detail"] == "not signed by the owner"
        assert granted.parts.keyring.read(granted.key_path) == (1, granted.key)

    @pytest.mark.parametrize(("method", "target"), ALL_ROUTES)
    def test_no_route_answers_to_another_key(self, granted: "Broker", method: str, target: str) -> None:
        token = granted.sign(method, target, b"{}", key=OwnerKey.generate())
        assert granted.owner(method, target, b"{}", token=token).status_code == 401

    def test_refuses_replayed_statement(self, granted: "Broker", open_broker: "OpenBroker") -> None:
        token = granted.sign("GET", "/v1/keys")
        assert granted.owner("GET", "/v1/keys", token=token).status_code == 200
        assert granted.owner("GET", "/v1/keys", token=token).status_code == 401
        # Nor after a restart.
        assert open_broker().owner("GET", "/v1/keys", token=token).status_code == 401

    @pytest.mark.parametrize(
        ("method", "target", "body"),
        [
            ("GET", "/v1/grants", b""),
            ("DELETE", "/v1/keys/loan/key/book", b""),
            ("GET", "/v1/keys?x=1", b""),
            ("GET", "/v1/keys", b" "),
        ],
    )
    def test_refuses_statement_about_another_request(
        self, granted: "Broker", method: str, target: str, body: bytes
    ) -> None:
        token = granted.sign("GET", "/v1/keys")
        assert granted.owner(method, target, body, token=token).status_code == 401

    @pytest.mark.parametrize("after_s", [-71, -3600, 11, 3600])
    def test_refuses_stale_or_early_statement(self, granted: "Broker", after_s: int) -> None:
        token = granted.sign("GET", "/v1/keys", after_s=after_s)
        assert granted.owner("GET", "/v1/keys", token=token).status_code == 401

    @pytest.mark.parametrize("after_s", [-69, 10])
    def test_bears_a_clock_that_is_a_little_off(self, granted: "Broker", after_s: int) -> None:
        token = granted.sign("GET", "/v1/keys", after_s=after_s)
        assert granted.owner("GET", "/v1/keys", token=token).status_code == 200

    def test_refuses_statement_for_another_broker(self, granted: "Broker", clock: "Clock") -> None:
        signed = SignedRequest("GET", "/v1/keys", b"")
        token = granted.owner_key.sign(signed, broker_id="0" * 32, now_s=int(clock().timestamp()))
        assert granted.owner("GET", "/v1/keys", token=token).status_code == 401

    def test_failed_attempts_count_against_the_rate(self, open_broker: "OpenBroker") -> None:
        broker = open_broker(request_burst=2, requests_per_s=0.001)
        answers = [broker.http.get("/v1/keys").status_code for _ in range(3)]
        assert answers == [401, 401, 429]
        # The owner is not locked out by a stranger at the same address.
        assert broker.owner("GET", "/v1/keys").status_code == 200


class TestKeyFile:
    @pytest.fixture
    def file(self, broker: "Broker") -> Path:
        return broker.files.owner / "admin.key"

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610, 0o666])
    def test_refuses_a_private_key_that_others_may_read(self, file: Path, mode: int) -> None:
        file.chmod(mode)
        with pytest.raises(ConfigurationError) as refusal:
            OwnerKey.load(file)
        assert (refusal.value.code, refusal.value.hint) == ("owner.key_mode", f"chmod 600 {file}")

    @pytest.mark.parametrize("mode", [0o600, 0o400])
    def test_takes_one_that_is_its_owners(self, file: Path, mode: int) -> None:
        public = OwnerKey.load(file).public_pem()
        file.chmod(mode)
        assert OwnerKey.load(file).public_pem() == public

    def test_everybody_may_read_the_public_key(self, broker: "Broker") -> None:
        broker.files.admin_public_key.chmod(0o644)
        OwnerGate(broker.files.admin_public_key, broker.parts.settings.broker_id, broker.parts.store)

    @pytest.mark.parametrize("content", [b"", b"x", b"-----BEGIN PRIVATE KEY-----\n" * 1000])
    def test_refuses_what_is_no_key(self, file: Path, content: bytes) -> None:
        file.write_bytes(content)
        with pytest.raises(ConfigurationError) as refusal:
            OwnerKey.load(file)
        assert refusal.value.code == "owner.key"


class TestStatement:
    """The gate itself, with statements the owner's key signs but the owner's client would not make."""

    @pytest.fixture
    def request_(self) -> SignedRequest:
        return SignedRequest("GET", "/v1/keys", b"")

    def claims(self, broker: "Broker", request: SignedRequest, now_s: int) -> dict[str, Any]:
        broker_id = broker.parts.settings.broker_id
        jti = base64.urlsafe_b64encode(bytes(16)).rstrip(b"=").decode()
        return {**request.claims(), "aud": broker_id, "iat": now_s, "exp": now_s + 60, "jti": jti}

    def check(self, broker: "Broker", claims: dict[str, Any], request: SignedRequest, **header: str) -> None:
        now_s = int(broker.parts.clock().timestamp())
        alg = header.pop("alg", ALGORITHM)
        token = jwt.encode(
            {"alg": alg, "typ": TYPE, **header}, claims, broker.owner_key._key, algorithms=[alg, ALGORITHM]
        )
        broker.parts.owner.check(token, request, now_s=now_s)

    def test_accepts_the_plain_one(self, broker: "Broker", request_: SignedRequest, clock: "Clock") -> None:
        self.check(broker, self.claims(broker, request_, int(clock().timestamp())), request_)

    @pytest.mark.parametrize(
        "change",
        [
            {"exp": 2**40},
            {"iat": 0},
            {"iat": "now"},
            {"exp": None},
            {"exp": 1.5},
            {"iat": True},
            {"jti": ""},
            {"jti": "x" * 65},
            {"jti": "a b" * 10},
            {"jti": 7},
            {"aud": ["x"]},
            {"htm": "get"},
            {"more": 1},
        ],
    )
    def test_refuses_odd_claims(
        self, broker: "Broker", request_: SignedRequest, clock: "Clock", change: dict[str, Any]
    ) -> None:
        claims = self.claims(broker, request_, int(clock().timestamp())) | change
        with pytest.raises(VerificationError):
            self.check(broker, claims, request_)

    @pytest.mark.parametrize("name", ["aud", "htm", "htu", "body_sha256", "iat", "exp", "jti"])
    def test_refuses_missing_claim(self, broker: "Broker", request_: SignedRequest, clock: "Clock", name: str) -> None:
        claims = self.claims(broker, request_, int(clock().timestamp()))
        del claims[name]
        with pytest.raises(VerificationError):
            self.check(broker, claims, request_)

    def test_refuses_another_type(self, broker: "Broker", request_: SignedRequest, clock: "Clock") -> None:
        claims = self.claims(broker, request_, int(clock().timestamp()))
        with pytest.raises(VerificationError):
            self.check(broker, claims, request_, typ="JWT")
        with pytest.raises(VerificationError):
            self.check(broker, claims, request_, kid="1")

    @pytest.mark.parametrize("token", ["", "a", "a.b.c", "..", "x" * 3000, "e30.e30.", "é.é.é"])
    def test_refuses_what_is_no_statement(self, broker: "Broker", request_: SignedRequest, token: str) -> None:
        with pytest.raises(VerificationError):
            broker.parts.owner.check(token, request_, now_s=0)

    def test_forgets_used_ids_when_they_can_no_longer_be_replayed(
        self, broker: "Broker", request_: SignedRequest, clock: "Clock"
    ) -> None:
        self.check(broker, self.claims(broker, request_, int(clock().timestamp())), request_)
        clock.advance(71)
        self.check(broker, self.claims(broker, request_, int(clock().timestamp())), request_)

    def test_key_files(self, broker: "Broker", tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError):
            OwnerKey.load(broker.files.admin_public_key)
        with pytest.raises(ConfigurationError):
            OwnerKey.load(tmp_path / "absent")
        (tmp_path / "ec.pem").write_bytes(ECKey.generate_key("P-256", auto_kid=False).as_pem(private=True))
        (tmp_path / "x25519.pem").write_bytes(OKPKey.generate_key("X25519", auto_kid=False).as_pem(private=True))
        (tmp_path / "garbage.pem").write_bytes(b"garbage")
        for name in ("ec.pem", "x25519.pem", "garbage.pem"):
            with pytest.raises(ConfigurationError):
                OwnerKey.load(tmp_path / name)
            with pytest.raises(ConfigurationError):
                OwnerGate(tmp_path / name, "0" * 32, broker.parts.store)
        assert "..." in repr(broker.owner_key)


class TestClient:
    @pytest.fixture
    def client(self, wire_broker: "Broker", clock: "Clock") -> Any:
        folder = wire_broker.files.owner
        with OwnerClient(folder, url=wire_broker.url, now_s=lambda: clock().timestamp()) as client:
            yield client

    def test_does_everything(self, client: OwnerClient, wire_broker: "Broker") -> None:
        path = wire_broker.key_path
        assert client.create_key(path, bits=256) == 1
        assert client.store_key(OTHER, b"given") == 1
        assert [(key.path, key.size_bytes) for key in client.list_keys()] == [(str(path), 32), (str(OTHER), 5)]
        assert client.export_key(OTHER) == b"given"
        assert client.export_key(path, version=1) == wire_broker.parts.keyring.read(path)[1]
        client.delete_key(OTHER)
        wire_broker.add_grant()
        (grant,) = client.list_grants()
        assert client.add_grant(grant, replace=True) == grant.policy.digest.hex()
        client.revoke("loan-train")
        assert client.list_grants() == []
        assert [json.loads(record.record)["event"] for record in client.read()][-1] == "grant.revoke"

    def test_says_what_went_wrong(self, client: OwnerClient, wire_broker: "Broker") -> None:
        client.create_key(wire_broker.key_path)
        with pytest.raises(WouldOverwrite) as taken:
            client.create_key(wire_broker.key_path)
        assert taken.value.code == "key.exists"
        with pytest.raises(ConfigurationError) as unknown:
            client.export_key(OTHER)
        assert unknown.value.code == "key.unknown"
        with pytest.raises(ConfigurationError):
            client.revoke("nobody")
        with pytest.raises(ConfigurationError):
            client.revoke("a/../../keys")

    def test_another_owner_is_refused(self, wire_broker: "Broker", clock: "Clock", tmp_path: Path) -> None:
        folder = tmp_path / "stranger"
        folder.mkdir()
        for name in ("owner.toml", "ca.pem"):
            write_new(folder / name, (wire_broker.files.owner / name).read_bytes())
        write_new(folder / "admin.key", OwnerKey.generate().private_pem())
        with (
            OwnerClient(folder, url=wire_broker.url, now_s=lambda: clock().timestamp()) as client,
            pytest.raises(KeyReleaseError),
        ):
            client.list_keys()

    def test_does_not_talk_to_a_server_of_another_authority(
        self, wire_broker: "Broker", clock: "Clock", tmp_path: Path, new_broker: Path
    ) -> None:
        from strongroom.broker.certificates import make_authority

        folder = tmp_path / "owner"
        folder.mkdir()
        for name in ("owner.toml", "admin.key"):
            write_new(folder / name, (wire_broker.files.owner / name).read_bytes())
        (folder / "ca.pem").write_bytes(make_authority("another", clock()).certificate)
        with OwnerClient(folder, url=wire_broker.url) as client, pytest.raises(UnavailableError):
            client.list_keys()

    def test_proxies_of_the_environment_are_ignored(
        self, wire_broker: "Broker", clock: "Clock", monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("HTTPS_PROXY", "ALL_PROXY", "https_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent")
        with OwnerClient(wire_broker.files.owner, url=wire_broker.url, now_s=lambda: clock().timestamp()) as client:
            assert client.list_keys() == []

    @pytest.mark.parametrize(
        "text",
        ["", "url = 'https://localhost:1'", "url = 1\nbroker_id = 'x'", "not toml", "url='h'\nbroker_id='x'\nmore='y'"],
    )
    def test_refuses_odd_settings(self, new_broker: Path, tmp_path: Path, text: str) -> None:
        (tmp_path / "owner.toml").write_text(text)
        with pytest.raises(ConfigurationError):
            OwnerClient(tmp_path)

    def test_refuses_plain_http(self, new_broker: Path) -> None:
        with pytest.raises(ConfigurationError):
            OwnerClient(new_broker / "owner", url="http://localhost:1")

    def test_nobody_answers(self, new_broker: Path) -> None:
        with OwnerClient(new_broker / "owner", url="https://localhost:9") as client, pytest.raises(UnavailableError):
            client.list_keys()

    @pytest.mark.parametrize("answer", [{}, {"keys": 1}, {"keys": [{"path": 1}]}, {"keys": [1]}])
    def test_odd_answers(self, new_broker: Path, answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        with OwnerClient(new_broker / "owner") as client:
            monkeypatch.setattr(client, "call", lambda *_: answer)
            with pytest.raises(FormatError):
                client.list_keys()
