"""A new broker: files, modes, certificates, settings."""

import errno
import os
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from strongroom.broker.certificates import CA_LIFETIME, SERVER_LIFETIME, general_name, issue_server, make_authority
from strongroom.broker.folder import BrokerFolder, write_new
from strongroom.broker.renewal import renew_certificate
from strongroom.broker.settings import BrokerSettings, load_settings
from strongroom.broker.setup import SimulatedTrust, create_broker
from strongroom.broker.store import Store
from strongroom.errors import ConfigurationError, FormatError, UnavailableError, WouldOverwrite

if TYPE_CHECKING:
    from tests.broker.conftest import Broker

NOW = datetime.now(UTC)


@pytest.fixture
def files(tmp_path: Path) -> BrokerFolder:
    return create_broker(tmp_path / "broker", now=NOW, hosts=["keys.example.com", "192.0.2.7"])


class TestFolder:
    def test_every_private_file_is_private(self, files: BrokerFolder) -> None:
        public = {"ca.pem", "server.pem", "admin.pub", "room.toml"}
        for path in files.root.rglob("*"):
            mode = stat.S_IMODE(path.stat().st_mode)
            if path.is_dir():
                assert mode == 0o700, path
            elif path.name not in public:
                assert mode == 0o600, path
        assert stat.S_IMODE(files.root.stat().st_mode) == 0o700

    def test_modes_do_not_depend_on_the_umask(self, tmp_path: Path) -> None:
        before = os.umask(0)
        try:
            files = create_broker(tmp_path / "open", now=NOW)
        finally:
            os.umask(before)
        assert stat.S_IMODE(files.root_key.stat().st_mode) == 0o600
        assert stat.S_IMODE(files.database.stat().st_mode) == 0o600
        assert stat.S_IMODE(files.owner.stat().st_mode) == 0o700

    def test_room_holds_no_secret(self, files: BrokerFolder) -> None:
        assert {path.name for path in files.room.iterdir()} == {"ca.pem", "room.toml"}
        assert (files.room / "ca.pem").read_bytes() == files.ca_certificate.read_bytes()
        assert (files.room / "room.toml").read_text() == 'url = "https://keys.example.com:8443"\n'
        assert b"PRIVATE" not in b"".join(path.read_bytes() for path in files.room.iterdir())

    def test_owner_holds_what_it_needs_and_nothing_of_the_broker(self, files: BrokerFolder) -> None:
        assert {path.name for path in files.owner.iterdir()} == {"ca.pem", "owner.toml", "admin.key"}
        assert (files.owner / "admin.key").read_bytes() not in {
            files.ca_key.read_bytes(),
            files.server_key.read_bytes(),
        }

    def test_two_brokers_share_nothing(self, files: BrokerFolder, tmp_path: Path) -> None:
        other = create_broker(tmp_path / "other", now=NOW)
        for name in ("root.key", "ca.pem", "ca.key", "server.key", "admin.pub", "broker.toml"):
            assert (files.root / name).read_bytes() != (other.root / name).read_bytes(), name

    def test_refuses_to_overwrite(self, files: BrokerFolder, tmp_path: Path) -> None:
        before = files.root_key.read_bytes()
        with pytest.raises(WouldOverwrite):
            create_broker(files.root, now=NOW)
        assert files.root_key.read_bytes() == before
        (tmp_path / "file").write_text("x")
        with pytest.raises(WouldOverwrite):
            create_broker(tmp_path / "file", now=NOW)

    @pytest.mark.parametrize("written", [0, 1, 5, 9])
    def test_a_full_disk_leaves_an_empty_folder_and_the_next_try_succeeds(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
    ) -> None:
        calls = iter(range(written))

        def fsync(descriptor: int) -> None:
            if next(calls, None) is None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            with pytest.raises(UnavailableError, match="No space left"):
                create_broker(tmp_path / "broker", now=NOW)
        assert list((tmp_path / "broker").iterdir()) == []
        create_broker(tmp_path / "broker", now=NOW)

    def test_a_database_that_can_not_be_made_leaves_an_empty_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def create(path: Path, *_: object) -> None:
            path.touch()
            raise sa.exc.OperationalError("CREATE", {}, Exception("disk full"))

        monkeypatch.setattr(Store, "create", create)
        with pytest.raises(UnavailableError) as refusal:
            create_broker(tmp_path / "broker", now=NOW)
        assert refusal.value.code == "broker.folder"
        assert list((tmp_path / "broker").iterdir()) == []

    def test_a_file_that_can_not_be_written_whole_is_not_there(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fsync(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", fsync)
        with pytest.raises(OSError, match="No space left"):
            write_new(tmp_path / "key", b"x" * 16)
        assert not (tmp_path / "key").exists()

    def test_takes_an_empty_folder_and_makes_it_private(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir(mode=0o755)
        assert stat.S_IMODE(create_broker(tmp_path / "empty", now=NOW).root.stat().st_mode) == 0o700

    @pytest.mark.parametrize("host", ["", "a b", "x" * 254, "-a", "host:1", "https://a", "*.example.com", "a\nb"])
    def test_refuses_odd_host(self, tmp_path: Path, host: str) -> None:
        with pytest.raises(ConfigurationError):
            create_broker(tmp_path / "broker", now=NOW, hosts=[host])
        assert not (tmp_path / "broker").exists()

    @pytest.mark.parametrize("address", ["", "localhost", "1.2.3", "127.0.0.1/8"])
    def test_refuses_odd_address_to_listen_on(self, tmp_path: Path, address: str) -> None:
        with pytest.raises(ConfigurationError):
            create_broker(tmp_path / "broker", now=NOW, listen=address)

    def test_writing_never_follows_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "target").write_text("precious")
        (tmp_path / "link").symlink_to(tmp_path / "target")
        with pytest.raises(WouldOverwrite):
            write_new(tmp_path / "link", b"x")
        (tmp_path / "dangling").symlink_to(tmp_path / "absent")
        with pytest.raises(WouldOverwrite):
            write_new(tmp_path / "dangling", b"x")

    def test_trusts_no_simulated_machine_by_default(self, files: BrokerFolder) -> None:
        assert load_settings(files.settings).allow_simulated is False
        assert not files.simulated_root.exists()
        assert list(files.collateral.iterdir()) == []

    def test_simulated_machine_brings_no_private_key(self, tmp_path: Path, simulated_trust: SimulatedTrust) -> None:
        files = create_broker(tmp_path / "broker", now=NOW, simulated=simulated_trust)
        assert load_settings(files.settings).allow_simulated is True
        assert "SIMULATED" in files.settings.read_text()
        assert files.simulated_root.read_bytes() == simulated_trust.root_der
        assert b"PRIVATE" not in b"".join(p.read_bytes() for p in files.collateral.rglob("*.json"))

    def test_refuses_odd_root_or_collateral(self, tmp_path: Path, simulated_trust: SimulatedTrust) -> None:
        with pytest.raises(FormatError):
            create_broker(tmp_path / "broker", now=NOW, simulated=SimulatedTrust(simulated_trust.root_der, b"{}"))
        with pytest.raises(ConfigurationError):
            create_broker(tmp_path / "broker", now=NOW, simulated=SimulatedTrust(b"x", simulated_trust.collateral))
        assert not (tmp_path / "broker").exists()


class TestCertificates:
    def test_chain_verifies_for_its_hosts(self, files: BrokerFolder) -> None:
        authority = x509.load_pem_x509_certificate(files.ca_certificate.read_bytes())
        leaf = x509.load_pem_x509_certificate(files.server_certificate.read_bytes())
        store = x509.verification.Store([authority])
        builder = x509.verification.PolicyBuilder().store(store)
        for host in ("keys.example.com", "localhost"):
            assert builder.build_server_verifier(x509.DNSName(host)).verify(leaf, [])[0] == leaf
        with pytest.raises(x509.verification.VerificationError):
            builder.build_server_verifier(x509.DNSName("example.com")).verify(leaf, [])

    def test_names_and_lifetimes(self, files: BrokerFolder) -> None:
        leaf = x509.load_pem_x509_certificate(files.server_certificate.read_bytes())
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["keys.example.com", "localhost"]
        assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.7", "127.0.0.1", "::1"]
        assert leaf.not_valid_after_utc - leaf.not_valid_before_utc <= SERVER_LIFETIME + timedelta(minutes=5)

    def test_server_key_can_not_sign_certificates(self, files: BrokerFolder) -> None:
        leaf = x509.load_pem_x509_certificate(files.server_certificate.read_bytes())
        assert leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
        assert leaf.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign is False

    def test_authority_signs_end_entities_only(self) -> None:
        certificate = x509.load_pem_x509_certificate(make_authority("test", NOW).certificate)
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        assert constraints.critical
        assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)
        assert certificate.not_valid_after_utc == (NOW + CA_LIFETIME).replace(microsecond=0)

    def test_private_keys_fit(self, files: BrokerFolder) -> None:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(files.server_certificate, files.server_key)
        key = serialization.load_pem_private_key(files.ca_key.read_bytes(), None)
        assert key.public_key() == x509.load_pem_x509_certificate(files.ca_certificate.read_bytes()).public_key()

    def test_refuses_no_host(self) -> None:
        with pytest.raises(ConfigurationError):
            issue_server(make_authority("test", NOW), [], NOW)

    def test_kinds_of_names(self) -> None:
        assert isinstance(general_name("::1"), x509.IPAddress)
        assert isinstance(general_name("a.b-c.example"), x509.DNSName)

    def test_private_keys_are_not_in_the_repr(self) -> None:
        assert repr(make_authority("test", NOW)) == "Issued(...)"


class TestRenewal:
    def test_new_certificate_for_the_same_hosts_and_more(self, files: BrokerFolder) -> None:
        before = (
            files.server_certificate.read_bytes(),
            files.server_key.read_bytes(),
            files.ca_certificate.read_bytes(),
        )
        later = NOW + timedelta(days=300)
        certificate = renew_certificate(files, hosts=["other.example.com", "localhost"], now=later)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["other.example.com", "localhost", "keys.example.com"]
        assert len(names.get_values_for_type(x509.IPAddress)) == 3
        assert certificate.not_valid_after_utc > NOW + SERVER_LIFETIME
        after = (
            files.server_certificate.read_bytes(),
            files.server_key.read_bytes(),
            files.ca_certificate.read_bytes(),
        )
        assert [new == old for new, old in zip(after, before, strict=True)] == [False, False, True]
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(files.server_certificate, files.server_key)
        assert stat.S_IMODE(files.server_key.stat().st_mode) == 0o600
        assert not list(files.root.glob("*.new"))

    @pytest.mark.parametrize("name", ["ca.key", "ca.pem", "server.pem"])
    @pytest.mark.parametrize("content", [None, b"garbage"])
    def test_refuses_missing_or_malformed_file(self, files: BrokerFolder, name: str, content: bytes | None) -> None:
        (files.root / name).unlink()
        if content is not None:
            (files.root / name).write_bytes(content)
        key = files.server_key.read_bytes()
        with pytest.raises(ConfigurationError):
            renew_certificate(files, hosts=[], now=NOW)
        assert files.server_key.read_bytes() == key


class TestSettings:
    def test_defaults_are_safe(self, files: BrokerFolder) -> None:
        values = load_settings(files.settings)
        assert values.host == "127.0.0.1"
        assert values.port == 8443
        assert 60 <= values.nonce_ttl_s <= 120
        assert values.token_ttl_s <= 300

    def test_environment_goes_before_the_file(self, files: BrokerFolder, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STRONGROOM_BROKER_PORT", "9443")
        assert load_settings(files.settings).port == 9443

    def test_refuses_unknown_variable(self, files: BrokerFolder, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STRONGROOM_BROKER_ALOW_SIMULATED", "false")
        with pytest.raises(ConfigurationError):
            load_settings(files.settings)

    @pytest.mark.parametrize(
        "line",
        [
            "unknown = 1",
            "port = 70000",
            "port = 'x'",
            "nonce_ttl_s = 59",
            "nonce_ttl_s = 121",
            "token_ttl_s = 301",
            "max_body_bytes = 0",
            "broker_id = 'x'",
            "not toml",
            "allow_simulated = 'perhaps'",
        ],
    )
    def test_refuses_wrong_line(self, files: BrokerFolder, line: str) -> None:
        kept = [text for text in files.settings.read_text().splitlines() if text.split()[0] != line.split()[0]]
        files.settings.write_text("\n".join([*kept, line]))
        with pytest.raises(ConfigurationError) as refusal:
            load_settings(files.settings)
        assert refusal.value.code == "broker.settings"

    def test_refuses_absent_and_huge_file(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError):
            load_settings(tmp_path / "absent.toml")
        (tmp_path / "huge.toml").write_text("#" * 70_000)
        with pytest.raises(ConfigurationError):
            load_settings(tmp_path / "huge.toml")

    def test_does_not_change(self, broker: "Broker") -> None:
        with pytest.raises(ValueError, match="frozen"):
            broker.parts.settings.port = 1

    def test_every_setting_is_documented(self) -> None:
        page = (Path(__file__).parents[2] / "docs" / "reference" / "broker.md").read_text()
        for name, field in BrokerSettings.model_fields.items():
            default = "(made by `init`)" if field.is_required() else f"`{field.default}`"
            assert f"| `{name}` | {default} | {field.description} |" in page
