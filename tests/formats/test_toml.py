"""What is not TOML has one meaning, wherever it stands."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom import outcome
from strongroom.broker.client import OwnerClient
from strongroom.broker.settings import load_settings
from strongroom.cli.policy_file import load_policy
from strongroom.composition import broker_address
from strongroom.deployment.kubernetes.site_file import load_site
from strongroom.errors import MalformedFile
from strongroom.formats.toml import parse_toml
from strongroom.pipelines.sources import load_sources
from strongroom.serving.config.toml import parse_serving_file
from strongroom.workload import load_workload

NOT_TOML = [b"not toml", b"a = ", b"a = 1\na = 2", b"\xff", b"a = " + b"[" * 20_000, b"a = " + b"9" * 10_000, b"\x00"]


def in_room(file: Path) -> None:
    file.rename(file.with_name("room.toml"))
    broker_address(file.parent, None)  # type: ignore[arg-type]  # it is not looked at


def of_owner(file: Path) -> None:
    file.rename(file.with_name("owner.toml"))
    OwnerClient(file.parent)


READERS = [
    load_settings,
    load_policy,
    load_site,
    load_sources,
    load_workload,
    lambda file: parse_serving_file(file.read_bytes()),
    in_room,
    of_owner,
]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("raw", NOT_TOML, ids=range(len(NOT_TOML)))
def test_every_file_that_is_not_toml_is_malformed(tmp_path: Path, read: Callable[[Path], object], raw: bytes) -> None:
    file = tmp_path / "file.toml"
    file.write_bytes(raw)
    with pytest.raises(MalformedFile) as refusal:
        read(file)
    assert outcome.exit_status(refusal.value) == outcome.NOT_GENUINE


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_any_input_is_a_document_or_malformed(raw: bytes | str) -> None:
    try:
        assert isinstance(parse_toml(raw, what="it", code="x.y"), dict)
    except MalformedFile as error:
        assert error.code == "x.y"


def test_says_where() -> None:
    with pytest.raises(MalformedFile, match=r"^it is not TOML: .*(line 2|end of document)"):
        parse_toml(b"a = 1\nb = ", what="it", code="x.y")
    with pytest.raises(MalformedFile, match=r"not UTF-8 \(at line 3\)"):
        parse_toml(b"a = 1\n\n\xff", what="it", code="x.y")
