"""Any bytes from a stranger end in a documented error, at every layer that sees them."""

import datetime as dt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.attestation.claims import Claims
from strongroom.errors import FormatError, VerificationError
from strongroom.platforms.simulated import SimulatedMachine
from strongroom.ratls.certificate import attested_certificate
from strongroom.ratls.self_signed import check_self_signed, parse_self_signed
from strongroom.ratls.tls import MAX_HANDSHAKE_BYTES, TlsPipe, client_context, server_context
from strongroom.ratls.verify import verify_certificate

NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
MACHINE = SimulatedMachine.build(NOW)
ENCLAVE = MACHINE.platform(mr_enclave=b"\xab" * 32, isv_prod_id=1, isv_svn=1)
CERTIFICATES = [attested_certificate(ENCLAVE, kind=kind).der for kind in ("p384", "rsa3072")]
SERVER = attested_certificate(ENCLAVE, kind="p256")
CONTEXT = server_context([SERVER.certificate], SERVER.key)


def refuses_every_quote(_quote: bytes, _now: dt.datetime) -> Claims:
    raise VerificationError("not genuine", code="test.quote")


@given(st.binary(max_size=400))
def test_any_bytes_as_a_certificate(raw: bytes) -> None:
    with pytest.raises((FormatError, VerificationError)):
        verify_certificate(raw, refuses_every_quote, NOW)
    with pytest.raises(FormatError):
        parse_self_signed(raw)


@given(st.sampled_from(CERTIFICATES), st.data())
def test_any_change_of_a_certificate_is_refused(raw: bytes, data: st.DataObject) -> None:
    """The self-signature covers every byte but its own encoding's, and those are checked by the parser."""
    position = data.draw(st.integers(0, len(raw) - 1))
    changed = bytearray(raw)
    changed[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises((FormatError, VerificationError)):
        check_self_signed(parse_self_signed(bytes(changed)), NOW)


@given(st.sampled_from(CERTIFICATES), st.data())
def test_a_cut_certificate_is_refused(raw: bytes, data: st.DataObject) -> None:
    with pytest.raises(FormatError):
        verify_certificate(raw[: data.draw(st.integers(0, len(raw) - 1))], refuses_every_quote, NOW)


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_any_bytes_as_a_handshake(records: list[bytes]) -> None:
    pipe = TlsPipe(CONTEXT)
    try:
        for record in records:
            pipe.receive(record)
            assert not pipe.handshake()
            pipe.to_send()
    except VerificationError as refusal:
        assert refusal.code == "tls.handshake"
    assert pipe.peer_certificate is None


@settings(max_examples=60)
@given(st.integers(0, 3), st.integers(0, 10**6), st.integers(1, 255))
def test_a_handshake_with_changed_bytes_never_ends_well(flipped: int, position: int, change: int) -> None:
    """Every flight is flipped somewhere; TLS must notice, and nothing but its own error may come out."""
    client = TlsPipe(client_context(None, [SERVER.certificate], SERVER.key), server_name="localhost")
    server = TlsPipe(CONTEXT)
    try:
        for turn in range(8):
            sender, receiver = (client, server) if turn % 2 == 0 else (server, client)
            sender.handshake()
            flight = bytearray(sender.to_send())
            if turn == flipped and flight:
                flight[position % len(flight)] ^= change
            receiver.receive(bytes(flight))
        ended = server.handshake()
    except VerificationError as refusal:
        assert refusal.code in {"tls.handshake", "tls.server_certificate"}
        return
    # A flipped record length only leaves the receiver waiting for more; a record's version is not authenticated and not
    # used. Whatever ends well has ended with the certificate that was sent.
    assert not ended or flipped > 2 or server.peer_certificate == SERVER.der


def test_a_handshake_longer_than_any_honest_one_is_cut() -> None:
    pipe = TlsPipe(CONTEXT)
    with pytest.raises(VerificationError) as refusal:
        for _ in range(MAX_HANDSHAKE_BYTES // 1000 + 1):
            pipe.receive(bytes(1000))
    assert refusal.value.code == "tls.handshake"
