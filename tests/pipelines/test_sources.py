"""What the first step reads: sealed files of its room, and in the clear only what the measured list names."""

import hashlib
import io
import os
from pathlib import Path
from typing import BinaryIO

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import ConfigurationError, StrongroomError, UnavailableError, VerificationError
from strongroom.pipelines.prepare import render_sources
from strongroom.pipelines.sources import (
    Source,
    check_url,
    load_sources,
    open_source,
    parse_source,
    parse_sources,
    sealed_name,
)

CSV = b"person_age\n22\n"
DIGEST = hashlib.sha256(CSV).hexdigest()
HOST = "https://data.example.com/"


class FakeRoom:
    def __init__(self, **files: bytes) -> None:
        self.files = files

    def open(self, path: str, /) -> BinaryIO:
        return io.BytesIO(self.files[path])


def read(url: str, *allowed: Source, room: FakeRoom | None = None) -> bytes:
    with open_source(url, allowed, room or FakeRoom()) as file:
        return file.read()


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> dict[str, httpx.Response]:
    """Answers by URL; everything else is a 404."""
    answers: dict[str, httpx.Response] = {}
    client = httpx.Client

    def make(**options: object) -> httpx.Client:
        assert options["follow_redirects"] is False
        assert options["trust_env"] is False
        transport = httpx.MockTransport(lambda request: answers.get(str(request.url), httpx.Response(404)))
        return client(transport=transport)

    monkeypatch.setattr(httpx, "Client", make)
    return answers


def test_reads_a_sealed_file_of_the_room() -> None:
    assert read("sealed:loans.csv", room=FakeRoom(**{"source/loans.csv": CSV})) == CSV


@pytest.mark.parametrize("name", ["", "../key", "a/b", "/etc/passwd", ".hidden", "a\0b", "a b", "a" * 200])
def test_refuses_a_sealed_name_that_is_a_path(name: str) -> None:
    with pytest.raises(ConfigurationError):
        sealed_name(f"sealed:{name}")


def test_fetches_an_allowed_url(web: dict[str, httpx.Response]) -> None:
    web[f"{HOST}loans.csv"] = httpx.Response(200, content=iter([CSV]))
    assert read(f"{HOST}loans.csv", Source(HOST)) == CSV
    web[f"{HOST}loans.csv"] = httpx.Response(200, content=iter([CSV[:5], CSV[5:]]))
    assert read(f"{HOST}loans.csv", Source(f"{HOST}loans.csv", DIGEST)) == CSV


def test_refuses_what_is_not_the_pinned_content(web: dict[str, httpx.Response]) -> None:
    web[f"{HOST}loans.csv"] = httpx.Response(200, content=iter([CSV, b"23\n"]))
    with pytest.raises(VerificationError, match="pinned"):
        read(f"{HOST}loans.csv", Source(f"{HOST}loans.csv", DIGEST))


@pytest.mark.parametrize("status", [301, 302, 307, 401, 404, 500])
def test_follows_no_redirect_and_takes_no_error_page(web: dict[str, httpx.Response], status: int) -> None:
    web[f"{HOST}loans.csv"] = httpx.Response(status, headers={"location": "https://evil.example/"}, content=CSV)
    with pytest.raises(UnavailableError, match=str(status)):
        read(f"{HOST}loans.csv", Source(HOST))


def test_stops_reading_an_endless_answer(web: dict[str, httpx.Response], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strongroom.pipelines.sources.MAX_SOURCE_BYTES", 10)
    web[f"{HOST}loans.csv"] = httpx.Response(200, content=iter([CSV]))
    with pytest.raises(UnavailableError, match="more than"):
        read(f"{HOST}loans.csv", Source(HOST))


@pytest.mark.parametrize(
    "url",
    [
        "https://other.example.com/loans.csv",
        "https://data.example.com.evil.example/loans.csv",
        "https://data.example.com/private/loans.csv",
        "file:///etc/passwd",
    ],
)
def test_refuses_a_url_that_is_not_in_the_list(web: dict[str, httpx.Response], url: str) -> None:
    web[url] = httpx.Response(200, content=iter([CSV]))
    with pytest.raises(ConfigurationError) as refusal:
        read(url, Source(f"{HOST}public/"), Source(f"{HOST}loans.csv"))
    assert refusal.value.code == "pipeline.source"


def test_refuses_everything_while_the_list_is_empty(web: dict[str, httpx.Response]) -> None:
    web[f"{HOST}loans.csv"] = httpx.Response(200, content=iter([CSV]))
    with pytest.raises(ConfigurationError):
        read(f"{HOST}loans.csv", *load_sources(Path(__file__).parents[2] / SHIPPED))


SHIPPED = "src/strongroom/pipelines/workloads/load-data/sources.toml"


@pytest.mark.parametrize(
    "url",
    [
        "http://data.example.com/loans.csv",
        "ftp://data.example.com/loans.csv",
        "https://data.example.com",
        "https://user@data.example.com/loans.csv",
        "https://user:pw@data.example.com/loans.csv",
        "https://data.example.com:8443/loans.csv",
        "https://DATA.example.com/loans.csv",
        "https://data.example.com/a/../loans.csv",
        "https://data.example.com/./loans.csv",
        "https://data.example.com//loans.csv",
        "https://data.example.com/%2e%2e/loans.csv",
        "https://data.example.com/loans.csv?x=1",
        "https://data.example.com/loans.csv#x",
        "https://data.example.com/loans csv",
        "https://data.example.com/loans.csv\n",
        "https://dätä.example.com/loans.csv",
        "https://[::1]/loans.csv",
        "https:///loans.csv",
        "file://host/mnt/loans.csv",
        "file:/mnt/loans.csv",
        "file:///mnt/../etc/passwd",
        "/mnt/loans.csv",
        "loans.csv",
        "",
        "https://[",
        "https://data.example.com/" + "a" * 2000,
    ],
)
def test_refuses_another_spelling(url: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        check_url(url)
    assert refusal.value.code == "pipeline.url"


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_a_plain_url_or_refused(text: str) -> None:
    try:
        url = check_url(f"https://{text}")
    except ConfigurationError:
        return
    assert httpx.URL(url).path == url.removeprefix("https://")[url.removeprefix("https://").index("/") :]
    assert not {"..", "@", ":", "%", "?", "#"} & set(url.removeprefix("https://").split("/"))


def file_url(path: Path) -> str:
    return f"file://{path}"


def test_reads_a_file_below_an_allowed_folder(tmp_path: Path) -> None:
    (tmp_path / "loans.csv").write_bytes(CSV)
    assert read(file_url(tmp_path / "loans.csv"), Source(file_url(tmp_path) + "/")) == CSV


def test_follows_no_link_out_of_the_allowed_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "loans.csv").write_bytes(CSV)
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "file").symlink_to(tmp_path / "secret" / "loans.csv")
    (tmp_path / "open" / "folder").symlink_to(tmp_path / "secret")
    for name in ("file", "folder/loans.csv"):
        with pytest.raises(UnavailableError):
            read(file_url(tmp_path / "open" / name), Source(file_url(tmp_path / "open") + "/"))


@pytest.mark.parametrize("kind", ["pipe", "folder", "missing"])
def test_reads_only_regular_files(tmp_path: Path, kind: str) -> None:
    if kind == "pipe":
        os.mkfifo(tmp_path / "loans.csv")
    elif kind == "folder":
        (tmp_path / "loans.csv").mkdir()
    with pytest.raises(UnavailableError):
        read(file_url(tmp_path / "loans.csv"), Source(file_url(tmp_path) + "/"))


def test_a_list_is_read_back_as_it_was_written() -> None:
    sources = (Source(HOST), Source(f"{HOST}loans.csv", DIGEST), Source("file:///mnt/loans/"))
    assert parse_sources(render_sources(sources)) == sources
    assert parse_source(f"{HOST}loans.csv={DIGEST}") == sources[1]


@pytest.mark.parametrize(
    "text",
    [
        "source = 1",
        "[[source]]",
        '[[source]]\nurl = "http://x/"',
        '[[source]]\nurl = "https://x/"\nurls = 1',
        f'[[source]]\nurl = "https://x/"\nsha256 = "{DIGEST}"',
        '[[source]]\nurl = "https://x/a"\nsha256 = "abc"',
        "other = true",
        "[[source",
        "\0",
    ],
)
def test_refuses_a_malformed_list(text: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_sources(text)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_a_list_or_refused(text: str) -> None:
    try:
        parse_sources(text)
    except StrongroomError:
        return


def test_refuses_a_list_that_is_absent_binary_or_long(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "long").write_bytes(b"#" * 70_000)
    for name in ("absent", "binary", "long"):
        with pytest.raises(ConfigurationError):
            load_sources(tmp_path / name)
