"""Everything that can be wrong with a request gets a problem document, and nothing that was stored is lost."""

import asyncio
import errno
import gzip
import io
import json
import threading
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from strongroom.errors import (
    ConfigurationError,
    FormatError,
    KeyReleaseError,
    MissingFile,
    Tampered,
    UnavailableError,
    WrongPath,
)
from strongroom.loan.catalog import read_catalog
from strongroom.loan.service.problems import to_problem
from strongroom.loan.service.settings import Root

HEADER = (
    b"person_age,person_income,person_home_ownership,person_emp_length,loan_intent,loan_grade,loan_amnt,"
    b"loan_int_rate,loan_status,loan_percent_income,cb_person_default_on_file,cb_person_cred_hist_length\n"
)
ROW = b"22,59000,RENT,3,PERSONAL,D,35000,16.02,1,0.59,Y,3\n"


def changed(column: str, value: bytes) -> bytes:
    """Good rows, whose third has another value in one column."""
    cells = ROW.rstrip(b"\n").split(b",")
    cells[HEADER.decode().strip().split(",").index(column)] = value
    return HEADER + ROW * 2 + b",".join(cells) + b"\n"


def without(column: str) -> bytes:
    place = HEADER.decode().strip().split(",").index(column)
    lines = (HEADER + ROW * 3).strip().split(b"\n")
    return b"\n".join(b",".join(c for i, c in enumerate(line.split(b",")) if i != place) for line in lines) + b"\n"


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["type"] == f"urn:strongroom:error:{code}"
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    return document


@contextmanager
def nothing_changes(client: Any) -> Iterator[None]:
    before = dict(client.storage.files)
    yield
    assert client.storage.files == before


@pytest.fixture(params=["data_processing", "predict"])
def upload(request: pytest.FixtureRequest, trained: Any) -> Iterator[Any]:
    """Sends a file with each of the calls that take one; afterwards the storage must be as it was."""
    with nothing_changes(trained):
        yield trained.process if request.param == "data_processing" else trained.predict


def test_refuses_an_empty_file(upload: Any) -> None:
    refused(upload(b""), 422, "loan.csv")


def test_refuses_a_header_without_rows(upload: Any) -> None:
    assert "no rows" in refused(upload(HEADER), 422, "loan.csv")["detail"]


@pytest.mark.parametrize("content", [b"\x00\x01\x02" * 100, b"%PDF-1.7\n", b"\x89PNG\r\n\x1a\n", b"{}", b'"open\n'])
def test_refuses_what_is_not_csv(upload: Any, content: bytes) -> None:
    assert upload(content).status_code == 422


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "cp037"])
def test_refuses_a_wrong_encoding(upload: Any, encoding: str) -> None:
    answer = upload((HEADER + ROW).decode().encode(encoding))
    assert answer.status_code == 422
    assert answer.json()["code"] in {"loan.csv", "loan.header"}


def test_refuses_latin_1_in_a_cell(upload: Any) -> None:
    refused(upload(changed("loan_intent", "PERSÖNAL".encode("latin-1"))), 422, "loan.rows")


def test_refuses_a_missing_column_by_name(upload: Any) -> None:
    assert "missing: 'loan_grade'" in refused(upload(without("loan_grade")), 422, "loan.header")["detail"]


def test_refuses_an_extra_column_by_name(upload: Any) -> None:
    content = HEADER.replace(b"\n", b",surprise\n") + ROW.replace(b"\n", b",1\n")
    assert "unknown: 'surprise'" in refused(upload(content), 422, "loan.header")["detail"]


def test_refuses_a_row_of_another_length(upload: Any) -> None:
    document = refused(upload(HEADER + ROW + b"1,2,3\n"), 422, "loan.rows")
    assert document["errors"][0] == {"row": 2, "column": "", "kind": "columns", "expected": "12 cells"}


@pytest.mark.parametrize("value", [b"NaN", b"nan", b"inf", b"-inf", b"Infinity", b"1e999"])
def test_refuses_nan_and_infinities(upload: Any, value: bytes) -> None:
    document = refused(upload(changed("person_income", value)), 422, "loan.rows")
    assert [(e["row"], e["column"]) for e in document["errors"]] == [(3, "person_income")]


def test_refuses_an_unknown_category_by_row(upload: Any) -> None:
    document = refused(upload(changed("loan_grade", b"Z")), 422, "loan.rows")
    assert document["errors"] == [
        {"row": 3, "column": "loan_grade", "kind": "category", "expected": "one of A, B, C, D, E, F, G"}
    ]
    assert document["more"] == 0


def test_names_the_first_twenty_wrong_rows_and_counts_the_rest(upload: Any) -> None:
    bad = changed("person_age", b"-1").splitlines(keepends=True)[3]
    document = refused(upload(HEADER + bad * 50), 422, "loan.rows")
    assert [error["row"] for error in document["errors"]] == list(range(1, 21))
    assert document["more"] == 30


def test_a_problem_never_repeats_what_was_in_a_cell(upload: Any) -> None:
    assert "S3CRET" not in upload(changed("person_income", b"S3CRET")).text


def send_raw(app: Any, method: str, path: str, headers: dict[str, str], chunks: Iterable[bytes]) -> httpx.Response:
    """Talk to the application as a server does; a body is handed over as it is asked for."""
    messages: list[Any] = []
    body = iter(chunks)

    async def receive() -> Any:
        chunk = next(body, None)
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    async def send(message: Any) -> None:
        messages.append(message)

    head = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope: dict[str, Any] = {"type": "http", "method": method, "path": path, "raw_path": path.encode()}
    scope |= {"query_string": b"", "scheme": "https", "server": None, "client": None, "headers": head}
    asyncio.run(app(scope, receive, send))
    answered = [(name.decode(), value.decode()) for name, value in messages[0]["headers"]]
    content = b"".join(message["body"] for message in messages[1:])
    return httpx.Response(messages[0]["status"], headers=answered, content=content)


MULTIPART = {"Content-Type": "multipart/form-data; boundary=b"}


def endless(sent: list[int], pieces: int) -> Iterator[bytes]:
    """A form whose file has many pieces of 1 MB."""
    yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
    for number in range(pieces):
        sent.append(number)
        yield b"1" * 1_000_000


@pytest.mark.parametrize("path", ["/predict", "/data_processing", "/train"])
def test_refuses_ten_gigabytes_before_they_are_sent(trained: Any, path: str) -> None:
    sent: list[int] = []
    headers = {**MULTIPART, "Content-Length": str(10 * 10**9)}
    with nothing_changes(trained):
        answer = send_raw(trained.app, "POST", path, headers, endless(sent, 10_000))
    refused(answer, 413, "http.body_too_long")
    assert answer.headers["connection"] == "close"
    assert not sent


def test_stops_receiving_ten_gigabytes_that_were_not_announced(open_client: Any) -> None:
    client = open_client(max_upload_bytes=20_000_000, memory_upload_bytes=4_000_000)
    sent: list[int] = []
    refused(send_raw(client.app, "POST", "/predict", MULTIPART, endless(sent, 10_000)), 413, "http.body_too_long")
    assert len(sent) <= 21


@pytest.mark.parametrize("length", ["-1", "1e3", "abc", "1" * 40, "\xb2"])
def test_refuses_a_length_that_is_none(client: Any, length: str) -> None:
    answer = send_raw(client.app, "POST", "/predict", {**MULTIPART, "Content-Length": length}, [b"--b--"])
    refused(answer, 413, "http.body_too_long")


@pytest.mark.parametrize("packed", ["gzip", "zip"])
def test_refuses_a_zip_bomb_as_a_file_without_unpacking_it(upload: Any, packed: str) -> None:
    if packed == "gzip":
        bomb = gzip.compress(bytes(20_000_000))
    else:
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("loans.csv", bytes(20_000_000))
        bomb = sink.getvalue()
    refused(upload(bomb, "loans.csv"), 422, "loan.csv")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "identity, gzip", "GZIP"])
def test_refuses_a_compressed_body(trained: Any, encoding: str) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b", "Content-Encoding": encoding}
    answer = trained.http.post("/predict", content=gzip.compress(bytes(1_000_000)), headers=headers)
    refused(answer, 415, "http.content_encoding")


@pytest.mark.parametrize("head", ["Content-Transfer-Encoding: base64", "Content-Encoding: gzip"])
def test_refuses_an_encoded_part(trained: Any, head: str) -> None:
    body = f'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n{head}\r\n\r\nx\r\n--b--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    refused(trained.http.post("/predict", content=body.encode(), headers=headers), 415, "form.encoding")


TRICKS = [
    "..",
    ".",
    "../models",
    "/etc/passwd",
    "models/../../x",
    "..\\models",
    "C:\\x",
    "%2e%2e%2f",
    "models%00",
    "models\x00.csv",
    "models\n",
    "~root",
    "$HOME",
    ".hidden",
    "\uff4dodels",
    "mo\u202edels",
    "a" * 65,
    "file:///etc/passwd",
    "https://evil.example/x",
    "models ",
    "con:",
    "-rf",
]


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize("name", ["data_directory", "model_directory", "model_name", "sample_directory"])
def test_refuses_path_tricks_in_every_name(trained: Any, sample_csv: bytes, name: str, trick: str) -> None:
    with nothing_changes(trained):
        code = "loan.model_name" if name == "model_name" else "loan.directory"
        document = refused(trained.predict(sample_csv, **{name: trick}), 422, code)
        assert document["errors"][0]["field"] == name
        if name != "sample_directory":
            refused(trained.train(**{name: trick}), 422, code)
        if name == "data_directory":
            refused(trained.process(sample_csv, **{name: trick}), 422, code)


@pytest.mark.parametrize("trick", [*TRICKS, "/loan_app", "/loan_app/azure-fileshare/..", "/loan_app/azure-fileshare//"])
def test_refuses_path_tricks_in_the_root(trained: Any, sample_csv: bytes, trick: str) -> None:
    with nothing_changes(trained):
        refused(trained.predict(sample_csv, az_file_path=trick), 404, "loan.unknown_root")
        refused(trained.train(az_file_path=trick), 404, "loan.unknown_root")
        refused(trained.process(sample_csv, az_file_path=trick), 404, "loan.unknown_root")


@pytest.mark.parametrize(
    "filename", ["../../x.csv", "/etc/passwd", "..", "C:\\x.csv", "a\x00.csv", "a\r\nb", "x" * 256]
)
def test_refuses_path_tricks_in_the_file_name(trained: Any, sample_csv: bytes, filename: str) -> None:
    quoted = filename.replace("\\", "\\\\")
    fields = "".join(
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in trained.fields.items()
        if name in {"az_file_path", "data_directory"}
    )
    head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{quoted}"\r\n\r\n'
    body = fields.encode() + head.encode() + sample_csv + b"\r\n--b--\r\n"
    with nothing_changes(trained):
        answer = trained.http.post(
            "/data_processing", content=body, headers={"Content-Type": "multipart/form-data; boundary=b"}
        )
        assert answer.status_code in {400, 422}
        assert answer.json()["code"] in {"form.filename", "form.malformed"}


@pytest.mark.parametrize(
    "path", ["/jobs/../metrics", "/jobs/..%2f..", "//ping", "/ping/", "/jobs/", "/%70ing", "/ping%00"]
)
def test_refuses_path_tricks_in_the_address(client: Any, path: str) -> None:
    refused(send_raw(client.app, "GET", path, {}, []), 404, "http.path")


@pytest.mark.parametrize("size", ["0", "-1", "1.5", "4e6", "four", "20000001", "99999999999", "٣", "0x10", "1 000"])
def test_refuses_a_size_that_is_no_number_of_rows(trained: Any, book_csv: bytes, size: str) -> None:
    with nothing_changes(trained):
        refused(trained.process(book_csv, size=size), 422, "loan.size")
        refused(trained.train(size=size), 422, "loan.size")


@pytest.mark.parametrize(
    "threshold",
    ["-0.1", "1.01", "1.5", "nan", "inf", "half", "1e999", "0x1", "0,5", "\u0660.\u0665", "." + "1" * 30, "2"],
)
def test_refuses_a_threshold_that_is_no_probability(trained: Any, sample_csv: bytes, threshold: str) -> None:
    with nothing_changes(trained):
        refused(trained.predict(sample_csv, threshold=threshold), 422, "loan.threshold")


@pytest.mark.parametrize("flag", ["maybe", "2", "None", "TrueFalse"])
def test_refuses_a_flag_that_is_neither_yes_nor_no(trained: Any, flag: str) -> None:
    refused(trained.train(continue_training=flag), 422, "form.field")


def test_names_missing_and_unknown_fields(trained: Any, sample_csv: bytes) -> None:
    document = refused(trained.predict(sample_csv, model_name=None, modelname="x"), 422, "form.fields")
    assert {error["field"] for error in document["errors"]} == {"model_name", "modelname"}
    assert refused(trained.http.post("/train", data={"az_file_path": ""}), 422, "form.fields")
    document = refused(trained.http.post("/predict", data=trained.fields), 422, "form.fields")
    assert document["errors"] == [{"field": "file", "expected": "a file"}]


def test_refuses_a_body_that_is_no_form(trained: Any) -> None:
    for path in ("/predict", "/data_processing", "/train"):
        refused(trained.http.post(path, json={"az_file_path": "x"}), 415, "form.media_type")
        refused(trained.http.post(path), 415, "form.media_type")


def test_an_unknown_model_is_not_found(trained: Any, sample_csv: bytes) -> None:
    with nothing_changes(trained):
        refused(trained.predict(sample_csv, model_name="nobody"), 404, "loan.unknown_model")
        refused(trained.train(model_name="nobody", continue_training="True"), 404, "loan.unknown_model")


def test_hints_are_about_calls_not_commands(trained: Any, sample_csv: bytes) -> None:
    hint = trained.predict(sample_csv, model_name="nobody").json()["hint"]
    assert hint.startswith("POST /train")


def test_unknown_data_is_not_found(trained: Any) -> None:
    with nothing_changes(trained):
        refused(trained.train(data_directory="nothing"), 404, "loan.unknown_batch")
        refused(trained.train(size=77), 404, "loan.unknown_batch")


def bundle_of(client: Any) -> str:
    return f"models/XGBoost/{read_catalog(client.storage, 'XGBoost').find().file}"


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "gone", "text"])
def test_refuses_a_corrupt_bundle(trained: Any, sample_csv: bytes, damage: str) -> None:
    files, name = trained.storage.files, bundle_of(trained)
    raw = files[name]
    flipped = bytearray(raw)
    flipped[len(raw) // 2] ^= 1
    new = {"cut": raw[:-1], "flipped": bytes(flipped), "emptied": b"", "gone": None, "text": b"pickle" * 99}[damage]
    if new is None:
        del files[name]
    else:
        files[name] = new
    refused(trained.predict(sample_csv), 500, "loan.bundle")


def test_refuses_a_bundle_swapped_for_another_models(trained: Any, sample_csv: bytes) -> None:
    trained.train(model_name="other")
    files = trained.storage.files
    other = f"models/other/{read_catalog(trained.storage, 'other').find().file}"
    trained.service.models.refresh_all()
    files[bundle_of(trained)] = files[other]
    refused(trained.predict(sample_csv), 500, "loan.bundle_swapped")


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000, b'{"champion": 1, "versions": []}', b"\xff"])
def test_refuses_a_damaged_catalog(trained: Any, sample_csv: bytes, content: bytes) -> None:
    trained.storage.files["models/XGBoost/catalog.json"] = content
    refused(trained.predict(sample_csv), 500, "loan.catalog")


@pytest.mark.parametrize("content", [b"", b"{}", b'{"batch": "../../x"}', b'{"batch": 7}', b"[" * 1000, b"\xff"])
def test_refuses_a_damaged_pointer_to_the_data(trained: Any, content: bytes) -> None:
    trained.storage.files["data/3000/latest.json"] = content
    refused(trained.train(), 500, "loan.batch")


class FullDisk:
    """A storage whose disk is full after some bytes."""

    def __init__(self, inner: Any, room_bytes: int = 0) -> None:
        self.inner = inner
        self.room_bytes = room_bytes

    @property
    def files(self) -> Any:
        return self.inner.files

    def open(self, path: str, /) -> Any:
        return self.inner.open(path)

    @contextmanager
    def create(self, path: str, /) -> Iterator[Any]:
        with self.inner.create(path) as sink:
            write = sink.write

            def checked(data: Any) -> int:
                self.room_bytes -= len(data)
                if self.room_bytes < 0:
                    raise OSError(errno.ENOSPC, "No space left on device", "/host/secret/path")
                count: int = write(data)
                return count

            class Sink(io.RawIOBase):
                def writable(self) -> bool:
                    return True

                def write(self, data: Any) -> int:
                    return checked(bytes(data))

            yield Sink()


@pytest.mark.parametrize("room_bytes", [0, 1_000, 40_000])
def test_a_full_disk_loses_nothing(
    open_client: Any, storage: Any, trained_files: dict[str, bytes], book_csv: bytes, sample_csv: bytes, room_bytes: int
) -> None:
    storage.files.update(trained_files)
    client = open_client(FullDisk(storage))
    other = b"".join(book_csv.splitlines(keepends=True)[:2_001])
    calls = (lambda: client.process(other), client.train, lambda: client.predict(sample_csv * 20))
    for call in calls[:2] if room_bytes else (*calls[:2], lambda: client.predict(sample_csv)):
        client.storage.room_bytes = room_bytes
        document = refused(call(), 507, "storage.full")
        assert "secret" not in json.dumps(document)
        assert all(storage.files.get(name) == raw for name, raw in trained_files.items())
    client.storage.room_bytes = 10**9
    assert client.predict(sample_csv).status_code == 200


def test_refuses_two_trainings_of_one_model_at_once(trained: Any) -> None:
    started, go_on = threading.Event(), threading.Event()
    open_file = trained.storage.open

    def slow(path: str, /) -> Any:
        if path.endswith("train.parquet"):
            started.set()
            assert go_on.wait(30)
        return open_file(path)

    trained.storage.open = slow
    first = trained.train({"Prefer": "respond-async"})
    assert first.status_code == 202
    assert started.wait(30)
    refused(trained.train(), 409, "loan.training_busy")
    refused(trained.train({"Prefer": "respond-async"}), 409, "loan.training_busy")
    trained.service.settings.roots["alias"] = Root(trained.storage)
    refused(trained.train(az_file_path="alias"), 409, "loan.training_busy")
    assert trained.train({"Prefer": "respond-async"}, model_name="other").status_code == 202
    go_on.set()
    trained.service.board.find(first.headers["location"].removeprefix("/jobs/")).ended.result(60)
    trained.storage.open = open_file
    assert trained.train().status_code == 200


def test_a_prediction_has_a_bound_of_its_own(open_client: Any, sample_csv: bytes) -> None:
    client = open_client(max_predict_bytes=1_000)
    refused(client.predict(sample_csv * 10), 413, "http.body_too_long")
    refused(client.process(sample_csv * 10), 422, "loan.rows")


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_loan_book_has_a_largest_number_of_rows(open_client: Any, book_csv: bytes, end: bytes) -> None:
    rows = book_csv.replace(b"\n", end)
    client = open_client(max_size=2_999)
    refused(client.process(rows, size=100), 422, "loan.csv")
    assert client.storage.files == {}
    assert open_client(max_size=3_000).process(rows, size=100).status_code == 200


@pytest.mark.parametrize("times", [1, 10])
def test_long_and_short_predictions_do_not_hold_up_each_other(
    trained_files: Any, open_client: Any, sample_csv: bytes, times: int
) -> None:
    client = open_client(memory_upload_bytes=2_000, predict_workers=1)
    client.storage.files.update(trained_files)
    service, go_on = client.service, threading.Event()
    other = service.long_predictions if times == 1 else service.predictions
    held = other._pool.submit(go_on.wait, 30)
    rows = b"".join(sample_csv.splitlines(keepends=True)[1:])
    assert client.predict(sample_csv + rows * (times - 1)).status_code == 200
    assert not held.done()
    go_on.set()
    assert held.result(30)


ERRORS = [
    (MissingFile("no such file: /host/S3CRET"), 500, "file.not_found"),
    (ConfigurationError("/host/S3CRET is a folder", code="file.is_folder"), 500, "file.is_folder"),
    (ConfigurationError("no mount holds 'S3CRET'", code="workload.no_mount"), 404, "workload.no_mount"),
    (ConfigurationError("mount S3CRET", code="room.read_only", hint="S3CRET"), 403, "room.read_only"),
    (FormatError("S3CRET is not a sealed file", code="sealed.format"), 500, "sealed.format"),
    (WrongPath("sealed for S3CRET"), 500, "sealed.wrong_path"),
    (Tampered("/host/S3CRET"), 500, "sealed.tampered"),
    (UnavailableError("/host/S3CRET: Input/output error", code="file.io"), 503, "file.io"),
    (PermissionError(13, "Permission denied", "/host/S3CRET"), 503, "file.io"),
    (MemoryError("S3CRET"), 503, "service.memory"),
    (RuntimeError("S3CRET"), 500, "bug"),
    (KeyReleaseError("S3CRET"), 500, "release.refused"),
]


@pytest.mark.parametrize(("error", "status", "code"), ERRORS, ids=[code for _, _, code in ERRORS])
def test_errors_of_the_machine_are_told_without_its_paths(error: Exception, status: int, code: str) -> None:
    problem = to_problem(error)
    assert (problem.status, problem.code) == (status, code)
    assert "S3CRET" not in json.dumps(problem.document())
    assert bytes(problem.response().body)


def test_a_full_disk_is_seen_through_every_wrapping() -> None:
    for number in (errno.ENOSPC, errno.EDQUOT):
        try:
            try:
                raise OSError(number, "full")
            except OSError:
                raise UnavailableError("/host: full", code="file.io") from None
        except UnavailableError as error:
            assert (to_problem(error).status, to_problem(error).code) == (507, "storage.full")
