"""The loan service in this process, over a storage in memory, and a client of it."""

import asyncio
import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import httpx
import pytest
from starlette.types import ASGIApp

from strongroom.loan.book import LoanBook
from strongroom.loan.presets import TrainSettings
from strongroom.loan.service.app import create_app
from strongroom.loan.service.parts import LoanService
from strongroom.loan.service.settings import REFERENCE_ROOT, Limits, Root, ServiceSettings
from strongroom.loan.writing import write_csv

QUICK = TrainSettings(rounds=20)


class MemoryFiles:
    """A storage in a dictionary; a file appears when its block ends without an exception."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def open(self, path: str, /) -> BinaryIO:
        if path not in self.files:
            raise FileNotFoundError(path)
        return io.BytesIO(self.files[path])

    @contextmanager
    def create(self, path: str, /) -> Iterator[BinaryIO]:
        sink = io.BytesIO()
        yield sink
        self.files[path] = sink.getvalue()


class InProcess(httpx.BaseTransport):
    """Hands requests to the application without a socket, all on one event loop."""

    def __init__(self, app: ASGIApp) -> None:
        self._runner = asyncio.Runner()
        self._transport = httpx.ASGITransport(app)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def exchange() -> httpx.Response:
            answer = await self._transport.handle_async_request(request)
            return httpx.Response(answer.status_code, headers=answer.headers, content=await answer.aread())

        return self._runner.run(exchange())

    def close(self) -> None:
        self._runner.close()


@dataclass
class Client:
    """Makes the calls as the reference's README does; every field can be changed or left out (None)."""

    service: LoanService
    app: ASGIApp
    http: httpx.Client
    storage: Any
    fields: dict[str, str] = field(
        default_factory=lambda: {
            "az_file_path": REFERENCE_ROOT,
            "data_directory": "data",
            "model_directory": "models",
            "model_name": "XGBoost",
            "sample_directory": "samples",
        }
    )

    def _texts(self, names: tuple[str, ...], changes: dict[str, Any]) -> dict[str, tuple[None, str]]:
        values = {name: self.fields[name] for name in names} | changes
        return {name: (None, str(value)) for name, value in values.items() if value is not None}

    def _post(self, path: str, parts: Any, headers: dict[str, str] | None = None) -> httpx.Response:
        return self.http.post(path, files=parts, headers=headers)

    def process(
        self, book: bytes, filename: str = "loans.csv", headers: dict[str, str] | None = None, **changes: Any
    ) -> httpx.Response:
        texts = self._texts(("az_file_path", "data_directory"), {"size": 3_000} | changes)
        return self._post("/data_processing", {**texts, "file": (filename, book)}, headers)

    def train(self, headers: dict[str, str] | None = None, **changes: Any) -> httpx.Response:
        names = ("az_file_path", "data_directory", "model_directory", "model_name")
        return self._post("/train", self._texts(names, {"size": 3_000} | changes), headers)

    def predict(self, sample: bytes, filename: str = "sample.csv", **changes: Any) -> httpx.Response:
        return self._post("/predict", {"file": (filename, sample), **self._texts(tuple(self.fields), changes)})


OpenClient = Callable[..., Client]


@pytest.fixture
def storage() -> MemoryFiles:
    return MemoryFiles()


@pytest.fixture
def open_client(storage: Any) -> Iterator[OpenClient]:
    """Opens a service over the test's storage."""
    with ExitStack() as stack:

        def make(storage: Any = storage, *, training: TrainSettings = QUICK, **limits: Any) -> Client:
            settings = ServiceSettings(
                {REFERENCE_ROOT: Root(storage)}, Limits(**({"refresh_s": 3600.0} | limits)), training
            )
            service = LoanService(settings)
            stack.callback(service.close)
            app = create_app(service)
            http = stack.enter_context(httpx.Client(base_url="https://localhost", transport=InProcess(app)))
            return Client(service, app, http, storage)

        yield make


@pytest.fixture
def client(open_client: OpenClient) -> Client:
    return open_client()


@pytest.fixture(scope="session")
def book_csv(small_book: LoanBook) -> bytes:
    """3,000 generated rows as CSV."""
    sink = io.BytesIO()
    write_csv([small_book], sink)
    return sink.getvalue()


@pytest.fixture(scope="session")
def sample_csv(book_csv: bytes) -> bytes:
    """Its first 10 rows."""
    return b"".join(book_csv.splitlines(keepends=True)[:11])


@pytest.fixture(scope="session")
def trained_files(book_csv: bytes) -> dict[str, bytes]:
    """What the storage holds after a data step and a training."""
    storage = MemoryFiles()
    service = LoanService(ServiceSettings({REFERENCE_ROOT: Root(storage)}, training=QUICK))
    with httpx.Client(base_url="https://localhost", transport=InProcess(create_app(service))) as http:
        client = Client(service, create_app(service), http, storage)
        assert client.process(book_csv).status_code == 200
        assert client.train().status_code == 200
    service.close()
    return storage.files


@pytest.fixture
def trained(client: Client, trained_files: dict[str, bytes]) -> Client:
    """A client of a service with processed data (size 3,000) and a trained model."""
    client.storage.files.update(trained_files)
    return client
