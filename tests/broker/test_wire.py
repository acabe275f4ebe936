"""What only the socket shows: raw paths, body framing, TLS, real clients."""

import json
import socket
import ssl
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from tests.broker.conftest import Broker, OpenBroker

RESOURCE = b"/kbs/v0/resource/"


def get(path: bytes, *, method: bytes = b"GET") -> bytes:
    return method + b" " + path + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


PATH_TRICKS = [
    RESOURCE + b"loan/key/%62ook",  # what would decode to a good name is refused as well
    RESOURCE + b"loan%2Fkey%2Fbook",
    RESOURCE + b"loan/key/..",
    RESOURCE + b"loan/key/../key/book",
    RESOURCE + b"loan/key/%2e%2e",
    RESOURCE + b"loan/key/%252e%252e",
    RESOURCE + b"./loan/key",
    RESOURCE + b"loan//key/book",
    RESOURCE + b"/loan/key/book",
    RESOURCE + b"loan/key/book/",
    RESOURCE + b"loan/key",
    RESOURCE + b"loan/key/book/more",
    RESOURCE + b"loan/key/bo%00ok",
    RESOURCE + b"loan/key/bo\\ok",
    RESOURCE + b"loan/key/bo;ok",
    RESOURCE + b"loan/key/bo\xc3\xa9k",
    RESOURCE + b"loan/key/" + b"x" * 129,
    b"/kbs/v0//resource/loan/key/book",
    b"//kbs/v0/resource/loan/key/book",
    b"/KBS/v0/resource/loan/key/book",
    b"/kbs/v0/plugin/x/y",
    b"/",
    b"*",
    b"/docs",
    b"/openapi.json",
]


def test_refuses_path_tricks(wire_broker: "Broker") -> None:
    status = {path: wire_broker.raw(get(path)).split(b" ", 2)[1] for path in PATH_TRICKS}
    # 401 would mean that the path was taken for a resource.
    assert {path: code for path, code in status.items() if code not in {b"404", b"400"}} == {}


def test_good_path_asks_for_a_token(wire_broker: "Broker") -> None:
    assert wire_broker.raw(get(RESOURCE + b"loan/key/book")).startswith(b"HTTP/1.1 401 ")


def test_refuses_other_methods(wire_broker: "Broker") -> None:
    for method in (b"PUT", b"PATCH", b"OPTIONS", b"TRACE", b"HEAD"):
        assert wire_broker.raw(get(RESOURCE + b"loan/key/book", method=method)).startswith(b"HTTP/1.1 405 ")


def test_refuses_oversized_body_of_unknown_length(open_broker: "OpenBroker") -> None:
    broker = open_broker(wire=True, max_body_bytes=2048)
    assert broker.http.post("/kbs/v0/auth", content=(bytes(1024) for _ in range(3))).status_code == 413


def test_refuses_announced_oversized_body_without_reading_it(open_broker: "OpenBroker") -> None:
    broker = open_broker(wire=True)
    head = b"POST /kbs/v0/auth HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 99999999999\r\n\r\n"
    assert broker.raw(head).startswith(b"HTTP/1.1 413 ")


def test_gives_up_on_a_body_that_does_not_come(open_broker: "OpenBroker") -> None:
    broker = open_broker(wire=True, body_timeout_s=1)
    head = b"POST /kbs/v0/auth HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 10\r\n\r\n{"
    assert broker.raw(head).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("begun", [b"", b"GET /healthz HTTP/1.1\r\nHost: loc"])
def test_gives_up_on_a_request_that_does_not_come(open_broker: "OpenBroker", begun: bytes) -> None:
    broker = open_broker(wire=True, head_timeout_s=1)
    assert broker.raw(begun) == b""


def test_gives_up_on_a_second_request_that_does_not_come(open_broker: "OpenBroker") -> None:
    broker = open_broker(wire=True, head_timeout_s=1)
    first = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert broker.raw(first, after_answer=b"GET /healthz HTTP/1.1\r\nHos").count(b"HTTP/1.1 200 ") == 1


def test_a_slow_answer_is_not_given_up(open_broker: "OpenBroker") -> None:
    broker = open_broker(wire=True, head_timeout_s=1, body_timeout_s=3)
    head = b"POST /kbs/v0/auth HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 10\r\n\r\n{"
    assert broker.raw(head).startswith(b"HTTP/1.1 408 ")  # after 3 s, not silence after 1 s


def test_bounds_the_head_of_a_request(wire_broker: "Broker") -> None:
    endless = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"X-Pad: " + b"x" * 20_000
    assert wire_broker.raw(endless).startswith(b"HTTP/1.1 400 ")


def test_refuses_both_framings_at_once(wire_broker: "Broker") -> None:
    request = (
        b"POST /kbs/v0/auth HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    )
    answer = wire_broker.raw(request)
    assert not answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1 ") <= 1


def test_speaks_tls_13_only(wire_broker: "Broker") -> None:
    url = wire_broker.http.base_url
    context = ssl.create_default_context(cafile=str(wire_broker.files.ca_certificate))
    with (
        socket.create_connection((url.host, url.port or 0), 10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as tls,
    ):
        assert tls.version() == "TLSv1.3"
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection((url.host, url.port or 0), 10) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname="localhost")


def test_is_not_trusted_by_the_public_authorities(wire_broker: "Broker") -> None:
    with pytest.raises(httpx.ConnectError):
        httpx.get(wire_broker.url, trust_env=False)


def test_certificate_names_only_its_hosts(wire_broker: "Broker") -> None:
    context = ssl.create_default_context(cafile=str(wire_broker.files.ca_certificate))
    url = wire_broker.http.base_url
    with socket.create_connection((url.host, url.port or 0), 10) as plain, pytest.raises(ssl.SSLCertVerificationError):
        context.wrap_socket(plain, server_hostname="keys.example.com")


def test_plain_http_gets_no_answer(wire_broker: "Broker") -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(wire_broker.url.replace("https://", "http://") + "/healthz", trust_env=False)


def test_does_not_say_what_it_runs_on(wire_broker: "Broker") -> None:
    assert "server" not in wire_broker.http.get("/healthz").headers


def test_a_connection_too_many_gets_a_problem_document(open_broker: "OpenBroker") -> None:
    broker = open_broker(wire=True, max_connections=1)
    assert broker.http.get("/healthz").status_code == 200  # and its connection stays open
    head, _, body = broker.raw(get(b"/healthz")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"content-type: application/problem+json" in head
    assert b"retry-after: 1" in head
    assert b"connection: close" in head.lower()
    assert json.loads(body)["type"].endswith("/Unavailable")
    assert broker.http.get("/healthz").status_code == 200
