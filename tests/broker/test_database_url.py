"""Where the database is: no password in it, and no server that could be anybody."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.broker.database_url import DatabaseAddress, check_credentials, parse_database_url
from strongroom.errors import ConfigurationError


def test_reads_every_part() -> None:
    address = parse_database_url(
        "postgresql://broker@db.example.com:6432/strongroom?sslrootcert=/a/ca.pem&sslcert=/a/c.pem&sslkey=/a/c.key"
    )
    files = {"sslrootcert": "/a/ca.pem", "sslcert": "/a/c.pem", "sslkey": "/a/c.key"}
    assert address == DatabaseAddress("db.example.com", 6432, "broker", "strongroom", "verify-full", files)
    assert str(address) == "strongroom at db.example.com:6432"


@pytest.mark.parametrize(
    ("url", "mode"),
    [
        ("postgresql://u@db/d?sslrootcert=system", "verify-full"),
        ("postgresql://u@192.0.2.1/d?sslrootcert=/ca.pem&sslmode=verify-full", "verify-full"),
        ("postgresql://u@localhost/d", "prefer"),
        ("postgresql://u@127.0.0.2/d?sslmode=disable", "disable"),
        ("postgresql://u@[::1]:1/d", "prefer"),
        ("postgresql://u@/d?host=/run/postgresql", "prefer"),
        ("postgresql://u@localhost/d?sslmode=verify-full&sslrootcert=/ca.pem", "verify-full"),
    ],
)
def test_server_of_another_machine_is_authenticated(url: str, mode: str) -> None:
    assert parse_database_url(url).ssl_mode == mode


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:CANARY@localhost/d",
        "postgresql://u:@localhost/d",
        "postgresql://u@localhost/d?password=CANARY",
        "postgresql://u@db/d?sslmode=require&sslrootcert=/ca.pem",  # encrypted, but to anybody
        "postgresql://u@db/d?sslmode=verify-ca&sslrootcert=/ca.pem",
        "postgresql://u@db/d?sslmode=disable",
        "postgresql://u@db/d",  # no CA to compare with
        "postgresql://u@localhost.example.com/d",
        "postgresql://u@localhost/d?sslmode=verify-full",
        "postgresql://u@localhost/d?sslmode=sometimes",
        "postgresql://u@127.0.0.1,db/d",
        "postgresql://u@localhost/d?host=db",
        "postgresql://u@localhost/d?host=/run",
        "postgresql://u@/d?host=run",
        "postgresql://u@/d?host=/run%2Cdb",
        "postgresql://u@/d",
        "postgresql://localhost/d",
        "postgresql://u@localhost/",
        "postgresql://u@localhost/d/e",
        "postgresql://u@localhost/d#f",
        "postgresql://u@localhost:x/d",
        "postgresql://u@localhost:70000/d",
        "postgresql://u@localhost/d?options=-cfsync%3Doff",
        "postgresql://u@localhost/d?sslmode=disable&sslmode=require",
        "postgresql://u@localhost/d?passfile=relative",
        "postgresql://u@localhost/d?passfile=system",
        "postgresql://u@localhost/d?sslcert=/a",
        "postgresql://u@localhost/d?sslkey=/a",
        "postgresql://u@localhost/d?passfile",
        "postgresql+psycopg://u@localhost/d",
        "mysql://u@localhost/d",
        "sqlite:///broker.db",
        "postgresql://u@local\nhost/d",
        "postgresql://ü@localhost/d",
        "postgresql://u@localhost/" + "d" * 2100,
        "",
    ],
)
def test_refuses(url: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        parse_database_url(url)
    assert refusal.value.code == "broker.database_url"
    assert "CANARY" not in f"{refusal.value} {refusal.value.hint}"


@given(st.text(max_size=60) | st.text(max_size=60).map(lambda text: f"postgresql://u@localhost/{text}"))
@settings(max_examples=200)
def test_any_text_raises_only_documented_errors(text: str) -> None:
    try:
        address = parse_database_url(text)
    except ConfigurationError:
        return
    assert address.user
    assert address.database


class TestCredentials:
    def test_refuses_what_others_can_read(self, tmp_path: Path) -> None:
        for name in ("passfile", "sslkey"):
            file = tmp_path / name
            file.touch(mode=0o600)
            address = DatabaseAddress("h", 1, "u", "d", "verify-full", {name: str(file)})
            check_credentials(address)
            file.chmod(0o640)
            with pytest.raises(ConfigurationError) as refusal:
                check_credentials(address)
            assert "chmod 600" in str(refusal.value.hint)

    @pytest.mark.parametrize("name", ["passfile", "sslkey", "sslcert", "sslrootcert"])
    def test_refuses_what_is_not_there_or_no_file(self, tmp_path: Path, name: str) -> None:
        for path in (tmp_path, tmp_path / "absent"):
            with pytest.raises(ConfigurationError):
                check_credentials(DatabaseAddress("h", 1, "u", "d", "verify-full", {name: str(path)}))

    def test_certificates_are_public(self, tmp_path: Path) -> None:
        (tmp_path / "ca.pem").touch(mode=0o644)
        files = {"sslrootcert": str(tmp_path / "ca.pem"), "sslcert": str(tmp_path / "ca.pem")}
        check_credentials(DatabaseAddress("h", 1, "u", "d", "verify-full", files))
        check_credentials(DatabaseAddress("h", 1, "u", "d", "verify-full", {"sslrootcert": "system"}))

    def test_refuses_a_password_in_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PGPASSWORD", "CANARY")
        with pytest.raises(ConfigurationError) as refusal:
            check_credentials(DatabaseAddress("h", 1, "u", "d", "prefer"))
        assert "CANARY" not in str(refusal.value)
