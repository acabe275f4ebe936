r"""ssl.cfg of TensorFlow Serving: text protobuf, strictly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import FormatError
from strongroom.formats.ssl_config import SslConfig, parse_ssl_config, serialize_ssl_config

KEY = "-----BEGIN PRIVATE KEY-----\nMIIsecretAA+/=\n-----END PRIVATE KEY-----\n"
CERT = "-----BEGIN CERTIFICATE-----\nMIIcert\n-----END CERTIFICATE-----\n"
TEXT = st.text(st.sampled_from([chr(c) for c in range(32, 127)] + ["\n", "\t", "\r"]), max_size=60)


def test_writes_the_four_lines_users_know() -> None:
    assert serialize_ssl_config(SslConfig(KEY, CERT, "", False)).decode().splitlines() == [
        r"server_key: '-----BEGIN PRIVATE KEY-----\nMIIsecretAA+/=\n-----END PRIVATE KEY-----\n'",
        r"server_cert: '-----BEGIN CERTIFICATE-----\nMIIcert\n-----END CERTIFICATE-----\n'",
        "custom_ca: ''",
        "client_verify: false",
    ]


def test_reads_base64_in_one_long_line_as_the_sample_scripts_write_it() -> None:
    raw = (
        rb"server_key: '-----BEGIN PRIVATE KEY-----\nAAAABBBB\n-----END PRIVATE KEY-----'"
        b"\n"
        rb"server_cert: '-----BEGIN CERTIFICATE-----\nCCCC\n-----END CERTIFICATE-----'"
        b"\n"
        rb"custom_ca: '-----BEGIN CERTIFICATE-----\nDDDD\n-----END CERTIFICATE-----'"
        b"\n"
        b"client_verify: true\n"
    )
    config = parse_ssl_config(raw)
    assert config.server_key == "-----BEGIN PRIVATE KEY-----\nAAAABBBB\n-----END PRIVATE KEY-----"
    assert config.custom_ca.splitlines()[1] == "DDDD"
    assert config.client_verify


@given(TEXT.filter(bool), TEXT.filter(bool), TEXT.filter(bool), st.booleans())
def test_reads_back_what_it_wrote(key: str, cert: str, ca: str, verify: bool) -> None:
    config = SslConfig(key, cert, ca, verify)
    assert parse_ssl_config(serialize_ssl_config(config)) == config


@pytest.mark.parametrize(
    "text",
    [
        "server_key:\"k\" server_cert:'c'",
        "# comment\nserver_cert : 'c' ; server_key : 'k' , client_verify : false # end",
        "server_key: 'k' server_cert: 'c' custom_ca: '' client_verify: false",
        r"server_key: '\x6b' server_cert: '\143'",
        "server_key: '' \"k\" ''\nserver_cert: 'c'",
    ],
)
def test_every_spelling_of_the_text_format_means_the_same(text: str) -> None:
    assert parse_ssl_config(text.encode()) == SslConfig("k", "c", "", False)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "ssl_config.incomplete"),
        ("server_key: 'k'", "ssl_config.incomplete"),
        ("server_cert: 'c'", "ssl_config.incomplete"),
        ("server_key: 'k' server_cert: 'c' client_verify: true", "ssl_config.incomplete"),
        ("server_key: 'k' server_cert: 'c' server_key: 'k'", "ssl_config.malformed"),
        ("server_key: 'k' server_cert: 'c' other: 'x'", "ssl_config.malformed"),
        ("server_key: 'k' server_cert: 'c' client_verify: 1", "ssl_config.malformed"),
        ("server_key: 'k' server_cert: 'c' client_verify: TRUE", "ssl_config.malformed"),
        ("server_key: 'k' server_cert: 'c' client_verify: 'true'", "ssl_config.malformed"),
        ("server_key: 'k", "ssl_config.malformed"),
        ("server_key: 'a\nb' server_cert: 'c'", "ssl_config.malformed"),
        ("server_key: k server_cert: 'c'", "ssl_config.malformed"),
        ("server_key 'k' server_cert: 'c'", "ssl_config.malformed"),
        (r"server_key: '\q' server_cert: 'c'", "ssl_config.malformed"),
        (r"server_key: '\0' server_cert: 'c'", "ssl_config.malformed"),
        (r"server_key: '\xff' server_cert: 'c'", "ssl_config.malformed"),
        ("server_key: 'k' server_cert: 'c' custom_ca: 'ü'", "ssl_config.malformed"),
        ("server_key: 'k' server_cert: 'c' }", "ssl_config.malformed"),
        ("#" * 256 * 1024 + "\n", "ssl_config.malformed"),
    ],
)
def test_refuses(text: str, code: str) -> None:
    with pytest.raises(FormatError) as refusal:
        parse_ssl_config(text.encode())
    assert refusal.value.code == code


def test_refuses_to_write_a_text_that_could_end_the_string_early() -> None:
    config = SslConfig("k'\ncustom_ca: 'x", "c")
    assert parse_ssl_config(serialize_ssl_config(config)) == config
    with pytest.raises(FormatError):
        serialize_ssl_config(SslConfig("k\0", "c"))


def test_the_private_key_is_in_no_message_and_no_representation() -> None:
    assert "MIIsecret" not in repr(SslConfig(KEY, CERT))
    broken = serialize_ssl_config(SslConfig(KEY, CERT)).replace(b"\\n-----END PRIVATE", b"\\q-----END PRIVATE")
    with pytest.raises(FormatError) as refusal:
        parse_ssl_config(broken)
    assert "MIIsecret" not in str(refusal.value)


@given(
    st.binary(max_size=200) | st.text(st.sampled_from("server_ky:'\"\\nx0 certuom_al#\n"), max_size=80).map(str.encode)
)
def test_any_bytes_give_a_configuration_or_a_format_error(raw: bytes) -> None:
    try:
        config = parse_ssl_config(raw)
    except FormatError:
        return
    assert parse_ssl_config(serialize_ssl_config(config)) == config
