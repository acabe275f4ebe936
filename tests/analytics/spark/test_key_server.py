"""The key server: its protocol with good, bad and hostile clients."""

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.analytics.kms import LocalKms
from strongroom.analytics.spark import key_server
from strongroom.analytics.spark.key_server import DONE, FAILED, MAX_CONTENT_BYTES, REFUSED, KeyServer, answer
from strongroom.analytics.spark.private_folder import PrivateFolder
from strongroom.errors import FormatError, UnavailableError

KEY = "taxi/key/trips"
MASTER = b"m" * 32


@pytest.fixture
def private() -> Iterator[Path]:
    with PrivateFolder() as folder:
        yield folder.path


def request(operation: bytes, name: bytes, content: bytes) -> bytes:
    return operation + struct.pack(">I", len(name)) + name + struct.pack(">I", len(content)) + content


def ask(path: Path, message: bytes) -> tuple[int, bytes] | None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        client.connect(str(path))
        received = b""
        # A server that refuses may close before everything is sent.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(message)
            client.shutdown(socket.SHUT_WR)
            while piece := client.recv(65536):
                received += piece
    if not received:
        return None
    assert struct.unpack(">I", received[1:5])[0] == len(received) - 5
    return received[0], received[5:]


def serving(private: Path) -> KeyServer:
    return KeyServer(LocalKms.holding({KEY: MASTER}), private)


def test_wraps_and_unwraps(private: Path) -> None:
    with serving(private) as server:
        wrapped = ask(server.path, request(b"W", KEY.encode(), b"k" * 32))
        assert wrapped is not None
        assert wrapped[0] == DONE
        assert ask(server.path, request(b"U", KEY.encode(), wrapped[1])) == (DONE, b"k" * 32)


def test_names_the_key_it_refuses(private: Path) -> None:
    with serving(private) as server:
        status, reason = ask(server.path, request(b"U", b"bank/key/other", b"x" * 40)) or (None, b"")
    assert status == REFUSED
    assert b"bank/key/other" in reason


def test_altered_wrapped_key_is_no_refusal_and_shows_no_key(private: Path) -> None:
    with serving(private) as server:
        status, reason = ask(server.path, request(b"U", KEY.encode(), b"\x01" + b"x" * 60)) or (None, b"")
    assert status == FAILED
    assert b"wrong_key" in reason
    assert MASTER not in reason


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"U",
        b"X" + request(b"U", KEY.encode(), b"x")[1:],
        request(b"U", b"n" * 401, b""),
        request(b"W", KEY.encode(), b"x" * (MAX_CONTENT_BYTES + 1)),
        b"U\xff\xff\xff\xff",
        request(b"U", KEY.encode(), b"x" * 40)[:-1],
    ],
)
def test_a_malformed_request_gets_no_answer_and_the_next_one_does(private: Path, message: bytes) -> None:
    with serving(private) as server:
        try:
            assert ask(server.path, message) is None
        except ConnectionResetError:
            pass  # it closed before it read everything
        assert (ask(server.path, request(b"W", KEY.encode(), b"k")) or (None,))[0] == DONE


def test_refuses_another_user(private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_server, "_user_of", lambda _: os.geteuid() + 1)
    with serving(private) as server:
        try:
            assert ask(server.path, request(b"W", KEY.encode(), b"k")) is None
        except ConnectionResetError:
            pass


def test_an_unavailable_broker_is_a_failure_not_a_refusal() -> None:
    class Gone:
        def wrap(self, key_name: str, secret: bytes) -> bytes:
            raise UnavailableError("the broker does not answer")

        unwrap = wrap

    status, reason = answer({b"U": Gone().unwrap}, _reading(request(b"U", KEY.encode(), b"x")))
    assert (status, reason) == (FAILED, b"the broker does not answer [unavailable]")


def test_a_bug_shows_its_type_only() -> None:
    class Broken:
        def wrap(self, key_name: str, secret: bytes) -> bytes:
            raise RuntimeError(f"secret was {secret!r}")

        unwrap = wrap

    assert answer({b"W": Broken().wrap}, _reading(request(b"W", KEY.encode(), b"hush"))) == (FAILED, b"RuntimeError")


@given(st.binary(max_size=600))
def test_any_bytes_end_in_an_answer_or_a_format_error(message: bytes) -> None:
    kms = LocalKms.holding({KEY: MASTER})
    try:
        status, _ = answer({b"W": kms.wrap, b"U": kms.unwrap}, _reading(message))
    except FormatError:
        return
    assert status in {DONE, REFUSED, FAILED}


def test_is_gone_after_close(private: Path) -> None:
    server = serving(private).start()
    server.close()
    with pytest.raises(OSError, match="refused"):
        ask(server.path, b"")


def _reading(message: bytes):  # type: ignore[no-untyped-def]  # a closure over the rest
    rest = bytearray(message)

    def read(count: int) -> bytes:
        if count > len(rest):
            raise FormatError("ends early")
        piece = bytes(rest[:count])
        del rest[:count]
        return piece

    return read
