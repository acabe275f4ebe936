"""Fetching collateral: Intel's own answers from a stand-in for its service, and a service that lies."""

import base64
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote as percent_encoded

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.attestation.collateral import MAX_DOCUMENT_BYTES, Collateral
from strongroom.attestation.roots import INTEL_ROOT, TrustRoot
from strongroom.broker import collateral_watch, pcs
from strongroom.broker.certificates import issue_server, make_authority
from strongroom.broker.collateral_update import fetch_collateral, read_stored, store_collateral, stored_platforms
from strongroom.broker.collateral_watch import warn_of_expiry, watching
from strongroom.broker.pcs import CollateralService, Wanted, platform_of_quote, signed_document
from strongroom.broker.verifier import Trust
from strongroom.errors import ConfigurationError, FormatError, StrongroomError, UnavailableError, VerificationError
from strongroom.platforms.simulated import SimulatedMachine, TcbFacts, Validity

THEN = datetime(2025, 6, 1, tzinfo=UTC)
"""When the service gave the answers in the test data."""
DAY = timedelta(days=1)
E3 = Wanted("sgx", bytes.fromhex("00906ed50000"), "processor")
SAPPHIRE_RAPIDS = Wanted("tdx", bytes.fromhex("00806f050000"), "platform")
JSON = "application/json"
LIST = "application/pkix-crl"


@dataclass(frozen=True)
class Answer:
    body: bytes
    type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200


Routes = dict[str, Answer]


@dataclass
class StandIn:
    """A service on a loopback port, behind TLS."""

    url: str
    ca_file: Path
    routes: Routes
    asked: list[str] = field(default_factory=list)

    def service(self, **options: Any) -> CollateralService:
        return CollateralService(self.url, self.ca_file, **options)

    def change(self, part: str, **changes: Any) -> None:
        path = next(path for path in self.routes if part in path)
        self.routes[path] = replace(self.routes[path], **changes)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """Certificate of an authority, and the server's side."""
    folder = tmp_path_factory.mktemp("tls")
    now = datetime.now(UTC)
    authority = make_authority("stand-in", now)
    server = issue_server(authority, ["localhost"], now)
    (folder / "ca.pem").write_bytes(authority.certificate)
    (folder / "server.pem").write_bytes(server.certificate + server.private_key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return folder / "ca.pem", context


@pytest.fixture
def stand_in(tls: tuple[Path, ssl.SSLContext]) -> Iterator[StandIn]:
    ca_file, context = tls
    made = StandIn("", ca_file, {})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            made.asked.append(self.path)
            answer = made.routes.get(self.path, Answer(b"", status=404))
            self.send_response(answer.status)
            headers = {"Content-Type": answer.type, "Content-Length": str(len(answer.body))} | answer.headers
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing is written."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that goes away is no news
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    made.url = f"https://localhost:{server.server_address[1]}"
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


def routes(
    wanted: Wanted, tcb: tuple[str, str], identity: tuple[str, str], crl: tuple[bytes, str], root_crl: bytes
) -> Routes:
    """What a cache answers: bodies as Intel signs them, chains in headers."""
    base = f"/{wanted.tee}/certification/v4"
    headers = ("TCB-Info-Issuer-Chain", "SGX-Enclave-Identity-Issuer-Chain", "SGX-PCK-CRL-Issuer-Chain")
    chains = [
        {name: percent_encoded(chain)} for name, chain in zip(headers, (tcb[1], identity[1], crl[1]), strict=True)
    ]
    return {
        f"{base}/tcb?fmspc={wanted.fmspc.hex().upper()}": Answer(tcb[0].encode(), JSON, chains[0]),
        f"{base}/qe/identity": Answer(identity[0].encode(), JSON, chains[1]),
        f"/sgx/certification/v4/pckcrl?ca={wanted.ca}&encoding=der": Answer(crl[0], LIST, chains[2]),
        "/sgx/certification/v4/rootcacrl": Answer(root_crl.hex().encode(), LIST),
    }


@pytest.fixture(scope="session")
def intel(testdata: Path) -> dict[Wanted, Routes]:
    """Intel's own answers."""

    def load(name: str) -> dict[str, str]:
        text = (testdata / "attestation" / "pcs_responses" / f"{name}.json").read_text()
        return dict(json.loads(text))

    def document(name: str, member: str) -> tuple[str, str]:
        answer = load(name)
        return answer[member], answer["issuer_chain"]

    other = testdata / "attestation" / "collateral" / "fmspc_00906ed5_2025_06.json"
    root_crl = Collateral.from_json(other.read_bytes()).root_ca_crl
    processor, platform = load("pck_crl_processor_der"), load("pck_crl_platform")
    pem = platform["crl_data"].split("-----")[2]
    return {
        E3: routes(
            E3,
            document("sgx_tcb_info_00906ED50000", "tcb_info_json"),
            document("sgx_qe_identity", "enclave_identity_json"),
            (base64.b64decode(processor["crl_data_base64"]), processor["issuer_chain"]),
            root_crl,
        ),
        SAPPHIRE_RAPIDS: routes(
            SAPPHIRE_RAPIDS,
            document("tdx_tcb_info_00806F050000", "tcb_info_json"),
            document("tdx_qe_identity", "enclave_identity_json"),
            (base64.b64decode(pem), platform["issuer_chain"]),
            root_crl,
        ),
    }


def simulated(collateral: Collateral, wanted: Wanted) -> Routes:
    """What a cache of a simulated machine's documents would answer."""
    tcb = f'{{"tcbInfo":{collateral.tcb_info},"signature":"{collateral.tcb_info_signature.hex()}"}}'
    identity = f'{{"enclaveIdentity":{collateral.qe_identity},"signature":"{collateral.qe_identity_signature.hex()}"}}'
    return routes(
        wanted,
        (tcb, collateral.tcb_info_issuer_chain),
        (identity, collateral.qe_identity_issuer_chain),
        (collateral.pck_crl, collateral.pck_crl_issuer_chain),
        collateral.root_ca_crl,
    )


class TestIntel:
    @pytest.mark.parametrize("wanted", [E3, SAPPHIRE_RAPIDS], ids=["sgx", "tdx"])
    def test_its_own_answers_are_stored(
        self, stand_in: StandIn, intel: dict[Wanted, Routes], tmp_path: Path, wanted: Wanted
    ) -> None:
        stand_in.routes = dict(intel[wanted])
        (stored,) = fetch_collateral(tmp_path, stand_in.service(), [wanted], INTEL_ROOT, THEN)
        assert stored.path.name == f"{wanted.tee}-{wanted.fmspc.hex()}.json"
        assert stored.checked is not None
        assert stored.checked.tcb_info.evaluation_data_number == 17
        assert THEN < stored.checked.expires < datetime(2025, 6, 27, tzinfo=UTC)
        assert [file.name for file in (tmp_path / "intel").iterdir()] == [stored.path.name]
        assert stored_platforms(tmp_path, INTEL_ROOT) == [wanted]
        assert stand_in.asked == list(intel[wanted])

    def test_what_is_stored_is_fetched_again(
        self, stand_in: StandIn, intel: dict[Wanted, Routes], tmp_path: Path
    ) -> None:
        stand_in.routes = intel[E3] | intel[SAPPHIRE_RAPIDS]
        first = list(fetch_collateral(tmp_path, stand_in.service(), list(intel), INTEL_ROOT, THEN))
        wanted = stored_platforms(tmp_path, INTEL_ROOT)
        assert set(wanted) == set(intel)
        second = list(fetch_collateral(tmp_path, stand_in.service(), wanted, INTEL_ROOT, THEN))
        assert {each.path for each in first} == {each.path for each in second}

    @pytest.mark.parametrize("now", [THEN + 60 * DAY, THEN - 60 * DAY])
    def test_stale_answers_are_refused_and_nothing_is_stored(
        self, stand_in: StandIn, intel: dict[Wanted, Routes], tmp_path: Path, now: datetime
    ) -> None:
        stand_in.routes = dict(intel[E3])
        with pytest.raises(VerificationError):
            list(fetch_collateral(tmp_path, stand_in.service(), [E3], INTEL_ROOT, now))
        assert list(tmp_path.iterdir()) == []

    def test_asks_intels_hosts_by_default(self) -> None:
        service = CollateralService()
        assert (service._api, service._root_crl) == (
            "https://api.trustedservices.intel.com",
            "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der",
        )

    @pytest.mark.parametrize(
        ("quote", "wanted"),
        [
            ("tdx_v4_uptodate_2024.bin", SAPPHIRE_RAPIDS),
            ("sgx_v3_icelake_outofdate.bin", Wanted("sgx", bytes.fromhex("00606a000000"), "platform")),
            ("sgx_v3_maa_debug.bin", E3),
        ],
    )
    def test_a_quote_says_what_is_wanted(self, testdata: Path, quote: str, wanted: Wanted) -> None:
        assert platform_of_quote((testdata / "attestation" / "quotes" / quote).read_bytes()) == wanted


HOSTILE: dict[str, tuple[Callable[[StandIn], None], type[StrongroomError], str]] = {
    "wrong signature": (
        lambda s: s.change("/tcb?", body=s.routes[next(iter(s.routes))].body.replace(b"OutOfDate", b"UpToDate")),
        VerificationError,
        "collateral.signature",
    ),
    "redirect": (
        lambda s: s.change("/tcb?", status=302, headers={"Location": f"{s.url}/elsewhere"}),
        UnavailableError,
        "collateral.fetch",
    ),
    "unknown processor": (lambda s: s.change("/tcb?", status=404), UnavailableError, "collateral.fetch"),
    "too many requests": (lambda s: s.change("rootcacrl", status=429), UnavailableError, "collateral.fetch"),
    "huge document": (
        lambda s: s.change("/tcb?", body=b" " * (MAX_DOCUMENT_BYTES + 1)),
        FormatError,
        "collateral.answer",
    ),
    "a page for people": (lambda s: s.change("/qe/", type="text/html"), FormatError, "collateral.answer"),
    "a list that is a page": (lambda s: s.change("rootcacrl", type="text/html"), FormatError, "collateral.answer"),
    "no type": (lambda s: s.change("/tcb?", type=""), FormatError, "collateral.answer"),
    "compressed": (
        lambda s: s.change("rootcacrl", headers={"Content-Encoding": "gzip"}),
        FormatError,
        "collateral.answer",
    ),
    "truncated JSON": (
        lambda s: s.change("/tcb?", body=s.routes[next(iter(s.routes))].body[:-40]),
        FormatError,
        "collateral.answer",
    ),
    "cut connection": (
        lambda s: s.change("rootcacrl", headers={"Content-Length": "100000", "Connection": "close"}),
        UnavailableError,
        "collateral.fetch",
    ),
    "empty": (lambda s: s.change("/qe/", body=b""), FormatError, "collateral.answer"),
    "no chain": (lambda s: s.change("/tcb?", headers={}), FormatError, "collateral.answer"),
    "chain that is none": (
        lambda s: s.change("/tcb?", headers={"TCB-Info-Issuer-Chain": "%ff%00nonsense"}),
        FormatError,
        "collateral.pem",
    ),
    "huge chain": (
        lambda s: s.change("/tcb?", headers={"TCB-Info-Issuer-Chain": "A" * 60_000}),
        FormatError,
        "collateral.answer",
    ),
    "list of another CA": (
        lambda s: s.change("pckcrl", body=bytes.fromhex(s.routes["/sgx/certification/v4/rootcacrl"].body.decode())),
        VerificationError,
        "collateral.crl_issuer",
    ),
    "no list": (lambda s: s.change("rootcacrl", body=b"00"), VerificationError, "collateral.crl"),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_a_service_that_lies_changes_nothing(
    stand_in: StandIn, intel: dict[Wanted, Routes], tmp_path: Path, how: str
) -> None:
    stand_in.routes = dict(intel[E3])
    (stored,) = fetch_collateral(tmp_path, stand_in.service(), [E3], INTEL_ROOT, THEN)
    before = stored.path.read_bytes()
    change, kind, code = HOSTILE[how]
    change(stand_in)
    with pytest.raises(kind) as refusal:
        list(fetch_collateral(tmp_path, stand_in.service(), [E3], INTEL_ROOT, THEN))
    assert refusal.value.code == code
    assert {file.name: file.read_bytes() for file in (tmp_path / "intel").iterdir()} == {stored.path.name: before}
    assert not any("elsewhere" in path for path in stand_in.asked)


def test_an_answer_that_drips_is_given_up(tls: tuple[Path, ssl.SSLContext]) -> None:
    """The deadline counts for the whole answer, not for each of its bytes."""
    ca_file, context = tls
    ended = threading.Event()

    class Dripping(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            while not ended.wait(0.01):
                self.wfile.write(b"x")

        def log_message(self, format: str, *args: object) -> None:
            """Nothing is written."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Dripping)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # the client gives up
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        service = CollateralService(f"https://localhost:{server.server_address[1]}", ca_file, answer_s=0.5)
        with pytest.raises(UnavailableError, match="takes too long"):
            service.fetch(E3)
    finally:
        ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_server_with_another_certificate_is_not_asked(stand_in: StandIn, tmp_path: Path) -> None:
    (tmp_path / "other.pem").write_bytes(make_authority("another", datetime.now(UTC)).certificate)
    with pytest.raises(UnavailableError):
        CollateralService(stand_in.url, tmp_path / "other.pem").fetch(E3)
    assert stand_in.asked == []


def test_proxies_of_the_environment_are_ignored(
    stand_in: StandIn, intel: dict[Wanted, Routes], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    stand_in.routes = dict(intel[E3])
    assert stand_in.service().fetch(E3).tcb_info.startswith('{"id":"SGX"')


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost",
        "https://",
        "https://user@host",
        "https://host?x=1",
        "https://host#x",
        "https://host/../x y",
        "https://host/%2e",
        "file:///etc",
        "",
    ],
)
def test_refuses_odd_url(url: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        CollateralService(url)
    assert refusal.value.code == "collateral.url"


def test_refuses_authorities_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        CollateralService("https://localhost", tmp_path / "absent.pem")
    assert refusal.value.code == "collateral.ca"


@given(st.binary(max_size=300))
def test_any_answer_is_a_document_or_malformed(body: bytes) -> None:
    try:
        text, signature = signed_document(body, "tcbInfo")
    except FormatError:
        return
    assert (text[0], text[-1], len(signature)) == ("{", "}", 64)


@given(st.text(st.characters(codec="utf-8"), max_size=50), st.binary(min_size=64, max_size=64))
def test_the_signed_text_is_taken_as_it_stands(text: str, signature: bytes) -> None:
    document = "{" + text + "}"
    body = f'{{"tcbInfo":{document},"signature":"{signature.hex()}"}}\n'
    assert signed_document(body.encode(), "tcbInfo") == (document, signature)


class TestRollback:
    @pytest.fixture
    def root(self, machine: SimulatedMachine) -> TrustRoot:
        return TrustRoot("simulated", machine.root_der)

    def test_an_older_answer_does_not_replace(
        self, stand_in: StandIn, machine: SimulatedMachine, root: TrustRoot, tmp_path: Path
    ) -> None:
        now = machine.created
        old = machine.collateral_parts(validity=Validity.of(now - DAY, 30 * DAY))
        new = machine.collateral_parts(validity=Validity.of(now, 30 * DAY))
        wanted = Wanted("sgx", machine.facts.fmspc, "platform")
        kept = store_collateral(tmp_path, new, root, now)
        stand_in.routes = simulated(old, wanted)
        with pytest.raises(VerificationError) as refusal:
            list(fetch_collateral(tmp_path, stand_in.service(), [wanted], root, now))
        assert refusal.value.code == "collateral.rolled_back"
        assert kept.path.read_text() == new.to_json()

    def test_a_recovery_is_not_taken_back(self, machine: SimulatedMachine, root: TrustRoot, tmp_path: Path) -> None:
        now = machine.created
        recovered = machine.collateral_parts(tcb=TcbFacts(evaluation_data_number=21))
        store_collateral(tmp_path, recovered, root, now)
        with pytest.raises(VerificationError):
            store_collateral(tmp_path, machine.collateral_parts(tcb=TcbFacts(evaluation_data_number=20)), root, now)

    def test_an_answer_about_another_processor_is_refused(
        self, stand_in: StandIn, machine: SimulatedMachine, root: TrustRoot, tmp_path: Path
    ) -> None:
        other = Wanted("sgx", bytes(6), "platform")
        stand_in.routes = simulated(machine.collateral_parts(), other)
        with pytest.raises(VerificationError) as refusal:
            list(fetch_collateral(tmp_path, stand_in.service(), [other], root, machine.created))
        assert refusal.value.code == "collateral.other"
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("content", [b"", b"{}", b"x" * 10])
    def test_a_stored_file_that_somebody_changed_is_not_replaced_silently(
        self, machine: SimulatedMachine, root: TrustRoot, tmp_path: Path, content: bytes
    ) -> None:
        kept = store_collateral(tmp_path, machine.collateral_parts(), root, machine.created)
        kept.path.write_bytes(content)
        with pytest.raises(VerificationError) as refusal:
            store_collateral(tmp_path, machine.collateral_parts(), root, machine.created)
        assert refusal.value.code == "collateral.stored"
        (shown,) = read_stored(tmp_path, root)
        assert shown.checked is None
        assert shown.problem is not None
        assert stored_platforms(tmp_path, root) == []


class TestWatch:
    @pytest.fixture
    def trusted(self, machine: SimulatedMachine, tmp_path: Path) -> Trust:
        root = TrustRoot("simulated", machine.root_der)
        short = machine.collateral_parts(validity=Validity.of(machine.created, 30 * DAY))
        store_collateral(tmp_path, short, root, machine.created)
        return Trust((INTEL_ROOT, root), tmp_path)

    @pytest.mark.parametrize(("after", "level"), [(22, None), (24, "warning"), (31, "warning")])
    def test_says_so_a_week_before(
        self,
        trusted: Trust,
        machine: SimulatedMachine,
        capsys: pytest.CaptureFixture[str],
        after: int,
        level: str | None,
    ) -> None:
        assert warn_of_expiry(trusted, machine.created + after * DAY) == (1 if level else 0)
        lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        assert [(line["event"], line["level"]) for line in lines] == ([("collateral.expires", level)] if level else [])

    def test_says_what_is_not_genuine(
        self, trusted: Trust, machine: SimulatedMachine, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (file,) = (trusted.collateral / "simulated").iterdir()
        file.write_text("{}")
        assert warn_of_expiry(trusted, machine.created) == 1
        assert json.loads(capsys.readouterr().err)["event"] == "collateral.not_genuine"

    def test_goes_on_after_a_fault_and_ends_with_the_broker(
        self, trusted: Trust, machine: SimulatedMachine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looked = threading.Semaphore(0)

        def look(*_: object) -> int:
            looked.release()
            raise OSError("a disk")

        monkeypatch.setattr(collateral_watch, "warn_of_expiry", look)
        monkeypatch.setattr(collateral_watch, "INTERVAL_S", 0.001)
        before = set(threading.enumerate())  # those of other tests may end meanwhile
        with watching(trusted, lambda: machine.created):
            assert all(looked.acquire(timeout=30) for _ in range(3))
        assert not set(threading.enumerate()) - before


def test_the_paths_of_intels_service(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def answer(self: object, _http: object, url: str, *_: object) -> object:
        asked.append(url)
        return pcs._Answer(b"", "")

    monkeypatch.setattr(CollateralService, "_get", answer)
    with pytest.raises(FormatError):
        CollateralService().fetch(SAPPHIRE_RAPIDS)
    assert asked == [
        "https://api.trustedservices.intel.com/tdx/certification/v4/tcb?fmspc=00806F050000",
        "https://api.trustedservices.intel.com/tdx/certification/v4/qe/identity",
        "https://api.trustedservices.intel.com/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
        "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der",
    ]
