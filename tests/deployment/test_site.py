"""The site file: strict, bounded, and nothing private in what it names."""

from collections.abc import Callable
from pathlib import Path

import pytest

from strongroom.deployment.kubernetes.nodes import SIZES, retirement_warning
from strongroom.deployment.kubernetes.site_file import load_site
from strongroom.deployment.kubernetes.template import write_site
from strongroom.errors import ConfigurationError, WouldOverwrite


def test_what_init_writes_can_be_read(fresh_site: Path) -> None:
    site = load_site(fresh_site)
    assert site.namespace == "strongroom"
    assert site.broker_namespace == "strongroom-broker"
    assert site.loan is not None
    assert site.loan.workload.name == "loan-service"
    assert site.nodes.size.epc_gib == 16


def test_init_overwrites_nothing(fresh_site: Path) -> None:
    with pytest.raises(WouldOverwrite):
        write_site(fresh_site.parent)


def swap(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return change


@pytest.mark.parametrize(
    "change",
    [
        swap('namespace = "strongroom"', 'namespace = "Strong Room"'),
        swap('namespace = "strongroom"', ""),
        swap('"203.0.113.0/24"', '"203.0.113.7/24"'),
        swap('"203.0.113.0/24"', '"everybody"'),
        swap('cluster = "10.0.0.1/32"', 'cluster = "api"'),
        swap("Standard_DC4s_v3", "Standard_NC6"),
        swap('["quote-helper"]', '["quote-hepler"]'),
        swap('["quote-helper"]', '["quote-helper", "quote-helper"]'),
        swap("most = 5 ", "evidence = 'tpm'\nmost = 5 "),
        swap("most = 5 ", "relay = 'registry.example.com/relay:latest'\nmost = 5 "),
        swap("most = 5 ", "most = 0 "),
        swap("@sha256:" + "a" * 64, ":latest"),
        swap("@sha256:" + "a" * 64, "@sha256:" + "A" * 64),
        swap('room = "broker/room"', 'room = "broker/other"'),
        swap("workloads/loan-service/workload.toml", "workloads/none/workload.toml"),
        swap('host = "loans.example.com"', 'host = "loans"'),
        swap('account = "strongroomfiles"', 'account = "Strong-Room"'),
        swap("size_gib = 20", "size_gib = 0"),
        swap("[spark]", "[spark]\nsecret = 1"),
        swap("[pipeline]", "[pipelin]"),
        swap("//strongroom@db.example.com", "//strongroom:password@db.example.com"),
        swap("db.example.com/strongroom", "db.example.com/strongroom?sslmode=disable"),
        swap("postgresql://", "mysql://"),
        swap("10.20.0.4/32", "db.example.com"),
        swap('ca = "database-ca.pem"', 'ca = "absent.pem"'),
        swap('login = "password"', 'login = "trust"'),
        swap("# address = ", "address = "),
        swap("[loan]", "[loan]\nleast = 9"),
        lambda text: text + "\n[[",
        lambda _text: "a = " + "[" * 100_000,
        lambda text: text + "#" * 300_000,
    ],
)
def test_refuses_a_site_that_is_wrong(fresh_site: Path, change: Callable[[str], str]) -> None:
    fresh_site.write_text(change(fresh_site.read_text()))
    with pytest.raises(ConfigurationError):
        load_site(fresh_site)


def test_refuses_a_private_key_where_the_broker_s_certificate_belongs(fresh_site: Path) -> None:
    (fresh_site.parent / "broker" / "room" / "ca.pem").write_text("-----BEGIN PRIVATE KEY-----\n")
    with pytest.raises(ConfigurationError, match="not public"):
        load_site(fresh_site)


def test_refuses_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="can't read"):
        load_site(tmp_path / "site.toml")


def test_a_site_may_have_less(fresh_site: Path) -> None:
    text = fresh_site.read_text()
    fresh_site.write_text(text[: text.index("[models]")])
    site = load_site(fresh_site)
    assert [site.models, site.tensorflow, site.spark, site.pipeline] == [None] * 4


def test_sizes_that_azure_takes_away_are_said() -> None:
    assert "2029-10-31" in str(retirement_warning(SIZES["Standard_DC4s_v3"]))
    assert retirement_warning(SIZES["Standard_DC4as_v6"]) is None
    assert SIZES["Standard_DC4s_v3"].epc_gib == 16
    assert SIZES["Standard_DC48ds_v3"].epc_gib == 256
