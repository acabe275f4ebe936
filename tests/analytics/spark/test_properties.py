"""Java's properties files, as a JVM reads ours and as a cluster hands them over."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.analytics.spark.properties import parse_properties, read_properties, serialize_properties
from strongroom.errors import ConfigurationError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(st.dictionaries(TEXT, TEXT, max_size=4))
def test_parses_what_it_serialized_one_line_each(settings: dict[str, str]) -> None:
    raw = serialize_properties(settings)
    assert raw.count(b"\n") == len(settings)
    assert parse_properties(raw) == settings


@given(st.binary(max_size=200))
def test_any_bytes_end_in_settings_or_an_error_of_ours(raw: bytes) -> None:
    try:
        parse_properties(raw)
    except ConfigurationError:
        pass


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("spark.master=k8s\\://https\\://10.0.0.7\\:6443", "spark.master", "k8s://https://10.0.0.7:6443"),
        ("spark.a   b c", "spark.a", "b c"),
        ("spark.a: b", "spark.a", "b"),
        ("  spark.a = =b", "spark.a", "=b"),
        ("spark\\ a=b", "spark a", "b"),
        ("spark.a=b\\\n   c", "spark.a", "bc"),
        ("spark.a=b\\\\\nspark.b=c", "spark.a", "b\\"),
        ("spark.a", "spark.a", ""),
        ("spark.a=\\u20ac\\t", "spark.a", "\u20ac\t"),
        ("#spark.b=c\r\n!d\r\nspark.a=b", "spark.a", "b"),
    ],
)
def test_reads_every_form_that_java_reads(line: str, name: str, value: str) -> None:
    assert parse_properties(line.encode())[name] == value


@pytest.mark.parametrize("raw", [b"a=\\u12", b"a=\xff", b"a=\\ud800"])
def test_refuses_malformed_files(raw: bytes) -> None:
    with pytest.raises(ConfigurationError):
        parse_properties(raw)


def test_refuses_a_file_without_end(tmp_path: Path) -> None:
    path = tmp_path / "spark.properties"
    path.write_bytes(b"a=b\n" * 300_000)
    with pytest.raises(ConfigurationError, match="longer"):
        read_properties(path)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("jshell") is None, reason="no jshell here")
def test_java_reads_the_properties_as_they_were() -> None:
    settings = {"a b": "c=d:e#f!\\ \n\t\u20ac\U0001f512", "spark.x": " leading and trailing "}
    text = serialize_properties(settings).decode().replace("\\", "\\\\").replace("\n", "\\n")
    program = (
        f'var p = new java.util.Properties(); p.load(new java.io.StringReader("{text}"));\n'
        "var utf8 = java.nio.charset.StandardCharsets.UTF_8; var hex = java.util.HexFormat.of();\n"
        'p.forEach((k, v) -> System.out.println(hex.formatHex((k + "=" + v).getBytes(utf8))));\n'
    )
    done = subprocess.run(["jshell", "-s", "-"], input=program, capture_output=True, text=True, check=True, timeout=120)
    read = {bytes.fromhex(line).decode() for line in done.stdout.split()}
    assert read == {f"{name}={value}" for name, value in settings.items()}
