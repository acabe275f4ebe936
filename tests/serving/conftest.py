"""Fixtures of the model server's tests: small models, servers on free ports, an independent protobuf encoder."""

import io
import ipaddress
import json
import struct
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import grpc
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from strongroom.errors import UnavailableError
from strongroom.serving.engines import DEFAULT_SIGNATURE, Engine, ModelFiles, Signature, TensorSpec
from strongroom.serving.engines.identity import IdentityMaker
from strongroom.serving.engines.xgboost import XGBoostMaker
from strongroom.serving.models.policy import ModelSettings
from strongroom.serving.models.storage import DangerousPlaintextFolder, relative
from strongroom.serving.server import ModelServer, ServerOptions
from strongroom.serving.tensors.dtypes import FLOAT, Array

FEATURES = 4


class MemoryStorage:
    """Model files in a dictionary, which a test changes at will."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def names(self, path: str) -> list[str]:
        prefix = relative(path) + "/"
        return sorted({name[len(prefix) :].split("/")[0] for name in self.files if name.startswith(prefix)})

    def open(self, path: str) -> BinaryIO:
        if path not in self.files:
            raise UnavailableError("no such file", code="serving.storage")
        return io.BytesIO(self.files[path])


class ScaleEngine:
    """y = factor * x for rows of any width; can be held, counted and made to fail."""

    platform = "scale"

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.closed = False
        self.batches: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        spec = TensorSpec("x", FLOAT, (None, None))
        self.signatures = {DEFAULT_SIGNATURE: Signature({"x": spec}, {"y": spec})}

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        assert not self.closed, "run after close"
        self.entered.set()
        assert self.gate.wait(20)
        rows = inputs["x"]
        self.batches.append(len(rows))
        if (rows == 666).any():
            raise RuntimeError("engine crashed, applicant row 666")
        return {"y": rows * np.float32(self.factor)}

    def example(self, signature: str) -> Mapping[str, Array]:
        return {"x": np.zeros((1, 2), dtype=np.float32)}

    def close(self) -> None:
        self.closed = True


class ScaleMaker:
    """Makes `ScaleEngine` from a file ``factor`` and keeps them all for the test to look at."""

    name = "scale"

    def __init__(self) -> None:
        self.engines: list[ScaleEngine] = []
        self.concurrency: list[int] = []

    def recognises(self, names: frozenset[str]) -> bool:
        return "factor" in names

    def load(self, files: ModelFiles, concurrency: int = 1) -> Engine:
        self.concurrency.append(concurrency)
        from strongroom.errors import FormatError

        try:
            engine = ScaleEngine(float(files.read("factor")))
        except ValueError:
            raise FormatError("not a factor", code="serving.model") from None
        self.engines.append(engine)
        return engine


@pytest.fixture
def memory() -> MemoryStorage:
    return MemoryStorage()


@pytest.fixture
def scale() -> ScaleMaker:
    return ScaleMaker()


@pytest.fixture(scope="session")
def booster() -> Any:
    xgboost = pytest.importorskip("xgboost")
    rows = np.random.default_rng(0).random((200, FEATURES), dtype=np.float32)
    data = xgboost.DMatrix(rows, label=rows[:, 0] > 0.5, feature_names=[f"f{i}" for i in range(FEATURES)])
    return xgboost.train({"objective": "binary:logistic", "max_depth": 3, "nthread": 1}, data, 10)


@pytest.fixture
def models(tmp_path: Path, booster: Any) -> Path:
    """A plain folder with an XGBoost model ``tabular`` and an identity model ``echo``."""
    return _write_models(tmp_path, booster)


def _write_models(tmp_path: Path, booster: Any) -> Path:
    for name in ("tabular/1", "echo/1"):
        (tmp_path / name).mkdir(parents=True)
    booster.save_model(tmp_path / "tabular/1/model.ubj")
    (tmp_path / "echo/1/identity.toml").write_text(
        '[tensors]\nx = {datatype = "FP32", shape = [-1, 2]}\ntext = {datatype = "BYTES", shape = [-1]}\n'
    )
    return tmp_path


class Served:
    """A running server and the two ways to ask it."""

    def __init__(self, server: ModelServer, channel: grpc.Channel) -> None:
        self.server = server
        self.channel = channel
        self.base = f"http://127.0.0.1:{server.rest_port}"

    def call(self, method: str, request: Any, response_class: Any, timeout: float = 20, **settings: Any) -> Any:
        """One unary call by its full name; requests may be raw bytes."""
        stub = self.channel.unary_unary(
            f"/{method}",
            request_serializer=lambda m: m if isinstance(m, bytes) else m.SerializeToString(),
            response_deserializer=getattr(response_class, "FromString", None),
        )
        return stub(request, timeout=timeout, **settings)

    def http(
        self, path: str, body: Any = None, method: str | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Status, parsed JSON (or bytes) and headers."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data=data, method=method, headers=dict(headers or {}))
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                status, raw, given = answer.status, answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            with error:
                status, raw, given = error.code, error.read(), error.headers
        if "json" in (given.get("content-type") or "") and "inference-header-content-length" not in {
            name.lower() for name in given
        }:
            return status, json.loads(raw), dict(given)
        return status, raw, dict(given)


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """Start servers that are drained at the end of the test."""
    with _servers() as start:
        yield start


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, booster: Any) -> Iterator[Served]:
    """One server with ``tabular`` and ``echo`` for all tests of a file that only ask it."""
    with _servers() as start:
        folder = _write_models(tmp_path_factory.mktemp("models"), booster)
        yield start(["tabular", "echo"], folder, metrics_path="/monitoring/prometheus/metrics")


@contextmanager
def _servers() -> Iterator[Callable[..., Served]]:
    started: list[Served] = []

    def start(
        names: Sequence[str | ModelSettings], storage: Any, makers: Sequence[Any] | None = None, **options: Any
    ) -> Served:
        settings = tuple(name if isinstance(name, ModelSettings) else ModelSettings(name, name) for name in names)
        given = replace(ServerOptions(settings, grpc_port=0, rest_port=0, poll_wait_s=0.02, drain_s=5.0), **options)
        source = DangerousPlaintextFolder(storage) if isinstance(storage, Path) else storage
        server = ModelServer(given, source, makers or [XGBoostMaker(), IdentityMaker()])
        served = Served(server, grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}"))
        started.append(served)
        server.start()
        return served

    try:
        yield start
    finally:
        for served in started:
            served.channel.close()
            served.server.drain()


def _varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(number: int, value: Any) -> bytes:
    """One protobuf field, written by hand: int as varint, float as 32 bits, bytes and str with their length."""
    if isinstance(value, (bool, int)):
        return _varint(number << 3) + _varint(int(value))
    if isinstance(value, float):
        return _varint(number << 3 | 5) + struct.pack("<f", value)
    raw = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(raw)) + raw


@pytest.fixture(scope="session")
def pb() -> Callable[..., bytes]:
    """``pb((1, "name"), (2, 7))``: bytes of a message, from field numbers and values, without any protobuf library."""
    return lambda *fields: b"".join(_field(number, value) for number, value in fields)


class Authority:
    """A certificate authority of the test and certificates from it."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.pem = self._make(self._name, self._key, authority=True).decode()

    def issue(self, name: str) -> tuple[str, str]:
        """Key and certificate, PEM, for localhost and 127.0.0.1."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._make(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key, authority=False)
        form = serialization.PrivateFormat.PKCS8
        raw = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        return raw.decode(), certificate.decode()

    def _make(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, *, authority: bool) -> bytes:
        start = datetime(2026, 1, 1, tzinfo=UTC)
        builder = (
            x509.CertificateBuilder(self._name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if not authority:
            hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="session")
def make_authority() -> Callable[[str], Authority]:
    return Authority
