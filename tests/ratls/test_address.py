"""Addresses as typed, and whether a certificate is for a host."""

import datetime as dt
import ipaddress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import ConfigurationError, VerificationError
from strongroom.ratls.address import Address, check_host, parse_address

KEY = ec.generate_private_key(ec.SECP256R1())


def certificate(common_name: str | None, *names: x509.GeneralName) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])
    moment = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder(subject, subject, KEY.public_key(), 1, moment, moment)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(KEY, hashes.SHA256())


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("localhost:4433", Address("localhost", 4433)),
        ("10.0.0.7:1", Address("10.0.0.7", 1)),
        ("[::1]:65535", Address("::1", 65535)),
        ("attestation.service.com", Address("attestation.service.com", 4433)),
    ],
)
def test_reads_an_address(text: str, address: Address) -> None:
    assert parse_address(text, default_port=4433) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    ["", ":1", "x:", "x:0", "x:65536", "x:-1", "::1:4433", "[::1", "[x]:1", "https://x:1", "x:1/", "a b:1", "x:१"],
)
def test_refuses_what_is_no_address(text: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        parse_address(text)
    assert refusal.value.code == "address.malformed"


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        address = parse_address(text, default_port=1)
    except ConfigurationError:
        return
    assert parse_address(str(address)) == address


def test_subject_alternative_names_count() -> None:
    names = (x509.DNSName("Keys.Example.com"), x509.IPAddress(ipaddress.ip_address("10.0.0.7")))
    for host in ("keys.example.com", "KEYS.example.com", "10.0.0.7"):
        check_host(certificate("other", *names), host)


@pytest.mark.parametrize("host", ["other", "example.com", "a.keys.example.com", "10.0.0.8", "::1"])
def test_another_host_is_refused_even_if_the_common_name_says_it(host: str) -> None:
    names = (x509.DNSName("keys.example.com"), x509.IPAddress(ipaddress.ip_address("10.0.0.7")))
    with pytest.raises(VerificationError) as refusal:
        check_host(certificate("other", *names), host)
    assert refusal.value.code == "tls.host"


def test_common_name_counts_where_there_is_no_other_name_as_gramines_servers_are_set_up() -> None:
    check_host(certificate("localhost"), "localhost")
    with pytest.raises(VerificationError):
        check_host(certificate("localhost"), "elsewhere")
    with pytest.raises(VerificationError):
        check_host(certificate(None), "localhost")


def test_wildcards_mean_nothing() -> None:
    with pytest.raises(VerificationError):
        check_host(certificate("x", x509.DNSName("*.example.com")), "keys.example.com")
