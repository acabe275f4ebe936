"""`strongroom broker`, `key`, `authorize`, `revoke`: the commands against a broker that runs in a thread."""

import json
import shutil
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from strongroom.attestation.claims import Claims
from strongroom.attestation.collateral import Collateral
from strongroom.broker.app import create_app
from strongroom.broker.audit import Entry
from strongroom.broker.log_head import FILE_NAME, LogHead, read_head
from strongroom.broker.parts import Parts, open_parts
from strongroom.broker.pcs import CollateralService, Wanted
from strongroom.broker.server import serving
from strongroom.broker.settings import load_settings
from strongroom.broker.setup import create_broker
from strongroom.broker.tables import audit
from strongroom.errors import Finding, VerificationError
from strongroom.formats.canonical import JsonValue
from strongroom.formats.kbs import ResourcePath
from strongroom.platforms.simulated import SimulatedMachine
from strongroom.workload import load_workload, measure

Command = Callable[..., Any]

WORKLOAD = """
name = "loan-train"
command = ["python3", "train.py"]
product_id = 7
security_version = 3
trusted_files = ["train.py"]

[keys]
data = "loan/key/book"
model = "loan/key/model"

[[mounts]]
path = "data"
key = "data"
mode = "read"

[[mounts]]
path = "model"
key = "model"
mode = "read-write"
"""


class NoVerifier:
    """Nobody attests in these tests."""

    def verify(self, quote: bytes, now: datetime) -> Claims:
        raise VerificationError("no")


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Parts]:
    """A running broker; its owner's folder is `tmp_path/broker/owner`."""
    files = create_broker(tmp_path / "broker", now=datetime.now(UTC))
    values = load_settings(files.settings)
    parts = open_parts(files, values, NoVerifier())
    with serving(create_app(parts), files, values) as url:
        for file in (files.owner / "owner.toml", files.room / "room.toml"):
            file.write_text(file.read_text().replace("https://localhost:8443", url))
        yield parts
    parts.close()


@pytest.fixture
def workload(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text("print('training')\n")
    (tmp_path / "loan-train.toml").write_text(WORKLOAD)
    return tmp_path / "loan-train.toml"


@pytest.fixture
def as_owner(strongroom: Command, live: Parts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Runs a command with STRONGROOM_OWNER set."""
    monkeypatch.setenv("STRONGROOM_OWNER", str(tmp_path / "broker" / "owner"))
    return strongroom


class TestInit:
    def test_makes_a_broker_and_says_what_is_next(self, strongroom: Command, tmp_path: Path) -> None:
        ended = strongroom("broker", "init", "b", "--host", "keys.example.com", "--listen", "0.0.0.0", "--port", 9443)
        assert ended.status == 0, ended.err
        assert ended.out == ""
        assert "strongroom broker serve b" in ended.err
        values = load_settings(tmp_path / "b" / "broker.toml")
        assert (values.host, values.port, values.allow_simulated) == ("0.0.0.0", 9443, False)
        assert 'url = "https://keys.example.com:9443"' in (tmp_path / "b" / "room" / "room.toml").read_text()

    def test_refuses_to_overwrite(self, strongroom: Command, tmp_path: Path) -> None:
        strongroom("broker", "init", "b")
        before = (tmp_path / "b" / "root.key").read_bytes()
        ended = strongroom("broker", "init", "b")
        assert ended.status == 2
        assert "[output.exists]" in ended.err
        assert (tmp_path / "b" / "root.key").read_bytes() == before

    def test_believes_a_simulated_machine_only_by_both_options(self, strongroom: Command, tmp_path: Path) -> None:
        SimulatedMachine.create(tmp_path / "machine", datetime.now(UTC))
        for private in (tmp_path / "machine").glob("*-key.pem"):
            private.unlink()  # a broker's machine has no business with them
        assert strongroom("broker", "init", "b", "--allow-simulated").status == 2
        assert strongroom("broker", "init", "b", "--simulated-machine", "machine").status == 2
        assert not (tmp_path / "b").exists()
        ended = strongroom("broker", "init", "b", "--allow-simulated", "--simulated-machine", "machine")
        assert ended.status == 0
        assert "SIMULATED" in ended.err
        assert len(list((tmp_path / "b" / "collateral" / "simulated").iterdir())) == 1

    def test_folder_that_is_no_machine(self, strongroom: Command) -> None:
        assert strongroom("broker", "init", "b", "--allow-simulated", "--simulated-machine", "absent").status == 2

    @pytest.mark.parametrize(
        "url",
        ["postgresql://u:CANARY@localhost/d", "postgresql://u@db/d?sslmode=require", "postgresql://u@/d?host=/no"],
    )
    def test_database_that_is_not_authenticated_or_not_there(
        self, strongroom: Command, tmp_path: Path, url: str
    ) -> None:
        ended = strongroom("broker", "init", "b", "--database-url", url)
        assert ended.status == (5 if url.endswith("/no") else 2)
        assert "CANARY" not in ended.err
        assert not (tmp_path / "b" / "root.key").exists()

    def test_serve_needs_a_broker(self, strongroom: Command) -> None:
        ended = strongroom("broker", "serve", "absent")
        assert ended.status == 2
        assert "hint: strongroom broker init" in ended.err


class TestRenew:
    def test_says_until_when(self, strongroom: Command) -> None:
        strongroom("broker", "init", "b")
        ended = strongroom("broker", "renew", "b", "--host", "keys.example.com")
        assert ended.status == 0
        assert "restart the broker" in ended.err
        assert strongroom("broker", "renew", "absent").status == 2
        assert strongroom("broker", "renew", "b", "--host", "a b").status == 2


class TestCollateral:
    """What a service answers is tested in `tests/broker/test_pcs.py`."""

    THEN = datetime(2025, 6, 1, tzinfo=UTC)

    @pytest.fixture
    def real(self, strongroom: Command, testdata: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Intel's collateral at a moment when it was valid, and a broker."""
        monkeypatch.setattr("strongroom.cli.broker_collateral._now", lambda: self.THEN)
        strongroom("broker", "init", "b")
        source = testdata / "attestation" / "collateral" / "fmspc_00906ed5_2025_06.json"
        return Path(shutil.copy(source, tmp_path / "c.json"))

    def test_installs_and_shows(self, strongroom: Command, real: Path, tmp_path: Path) -> None:
        assert strongroom("broker", "collateral", "b").out == ""
        ended = strongroom("broker", "collateral", "b", "c.json", "--json")
        assert ended.status == 0, ended.err
        (file,) = (tmp_path / "b" / "collateral" / "intel").iterdir()
        assert json.loads(file.read_text()) == json.loads(real.read_text())
        (row,) = json.loads(ended.out)
        assert row == json.loads(strongroom("broker", "collateral", "b", "--json").out)[0]
        assert row["file"] == file.name == "sgx-00906ed50000.json"
        assert (row["tee"], row["fmspc"], row["ca"], row["expired"]) == ("sgx", "00906ed50000", "processor", False)
        assert row["expires"].startswith("2025-06-26T")
        assert "2025-06-26" in strongroom("broker", "collateral", "b").out

    def test_warns_before_it_expires(self, strongroom: Command, real: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert "warning" not in strongroom("broker", "collateral", "b", real).err
        monkeypatch.setattr("strongroom.cli.broker_collateral._now", lambda: self.THEN + timedelta(days=20))
        assert "expires on 2025-06-26" in strongroom("broker", "collateral", "b").err

    def test_refuses_what_is_none_or_not_intels_or_expired(
        self, strongroom: Command, real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "none.json").write_text("{}")
        (tmp_path / "simulated.json").write_text(SimulatedMachine.build(self.THEN).collateral())
        for name in ("none.json", "simulated.json"):
            assert strongroom("broker", "collateral", "b", name).status == 3
        monkeypatch.setattr("strongroom.cli.broker_collateral._now", lambda: datetime.now(UTC))
        assert "[collateral.expired]" in strongroom("broker", "collateral", "b", "c.json").err
        assert strongroom("broker", "collateral", "b", "absent.json").status == 2
        assert strongroom("broker", "collateral", "absent").status == 2
        assert not (tmp_path / "b" / "collateral" / "intel").exists()

    @pytest.mark.parametrize(
        "options",
        [(), ("--fmspc", "x"), ("--fmspc", "00"), ("--fmspc", "00 90 6e d5 00 00"), ("--quote", "absent.bin")],
    )
    def test_fetch_says_what_is_missing(self, strongroom: Command, real: Path, options: tuple[str, ...]) -> None:
        ended = strongroom("broker", "fetch-collateral", "b", *options)
        assert ended.status == 2
        assert "[collateral." in ended.err

    def test_fetch_asks_the_cache_of_the_settings(
        self, strongroom: Command, real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        collateral = Collateral.from_json(real.read_bytes())
        asked: list[object] = []

        def fetch(service: CollateralService, wanted: Wanted) -> Collateral:
            asked.append((service._api, wanted))
            return collateral

        monkeypatch.setattr(CollateralService, "fetch", fetch)
        monkeypatch.setenv("STRONGROOM_BROKER_PCCS_URL", "https://pccs.example.com:8081/")
        named = ("--fmspc", "00906ED50000", "--ca", "processor")
        first = strongroom("broker", "fetch-collateral", "b", *named, "--json")
        again = strongroom("broker", "fetch-collateral", "b", "--json")
        assert (first.status, again.status) == (0, 0), first.err + again.err
        assert first.out == again.out
        assert (
            asked == [("https://pccs.example.com:8081", Wanted("sgx", bytes.fromhex("00906ed50000"), "processor"))] * 2
        )
        monkeypatch.setenv("STRONGROOM_BROKER_PCCS_URL", "http://pccs.example.com")
        assert "[collateral.url]" in strongroom("broker", "fetch-collateral", "b").err


class TestKey:
    def test_create_list_export_delete(self, as_owner: Command, live: Parts, tmp_path: Path) -> None:
        assert as_owner("key", "create", "loan/key/book").status == 0
        assert as_owner("key", "create", "loan/key/model", "--bits", 256).status == 0
        listed = json.loads(as_owner("key", "list", "--json").out)
        assert [(key["path"], key["size_bytes"]) for key in listed] == [("loan/key/book", 16), ("loan/key/model", 32)]
        assert as_owner("key", "list").out.startswith("loan/key/book  version 1  128 bits")
        ended = as_owner("key", "export", "loan/key/book", "wrap_key")
        assert ended.status == 0
        assert ended.out == ""
        assert (tmp_path / "wrap_key").read_bytes() == live.keyring.read(ResourcePath("loan", "key", "book"))[1]
        assert stat.S_IMODE((tmp_path / "wrap_key").stat().st_mode) == 0o600
        assert as_owner("key", "delete", "loan/key/book", "--yes").status == 0
        assert [str(key.path) for key in live.keyring.list()] == ["loan/key/model"]

    def test_refuses_a_name_that_is_taken(self, as_owner: Command) -> None:
        as_owner("key", "create", "loan/key/book")
        ended = as_owner("key", "create", "loan/key/book")
        assert (ended.status, "[key.exists]" in ended.err) == (2, True)

    def test_export_refuses_to_overwrite(self, as_owner: Command, live: Parts, tmp_path: Path) -> None:
        as_owner("key", "create", "loan/key/book")
        (tmp_path / "wrap_key").write_text("precious")
        assert as_owner("key", "export", "loan/key/book", "wrap_key").status == 2
        assert (tmp_path / "wrap_key").read_text() == "precious"
        exports = [r for r in live.log.read() if b"key.export" in r.record]
        assert exports == []  # nor was the key fetched
        assert as_owner("key", "export", "loan/key/book", "wrap_key", "--force").status == 0
        assert len((tmp_path / "wrap_key").read_bytes()) == 16
        assert stat.S_IMODE((tmp_path / "wrap_key").stat().st_mode) == 0o600

    def test_delete_asks(self, as_owner: Command, live: Parts) -> None:
        as_owner("key", "create", "loan/key/book")
        ended = as_owner("key", "delete", "loan/key/book")
        assert ended.status == 2
        assert "--yes" in ended.err
        assert len(live.keyring.list()) == 1

    @pytest.mark.parametrize("name", ["book", "a/b", "a/b/c/d", "../b/c", "a/b/", "a b/c/d"])
    def test_odd_name(self, as_owner: Command, name: str) -> None:
        assert as_owner("key", "create", name).status == 3

    def test_odd_bits(self, as_owner: Command) -> None:
        assert as_owner("key", "create", "a/b/c", "--bits", 64).status == 2

    def test_generate_needs_no_broker(self, strongroom: Command, tmp_path: Path) -> None:
        assert strongroom("key", "generate", "wrap_key").status == 0
        first = (tmp_path / "wrap_key").read_bytes()
        assert len(first) == 16
        assert stat.S_IMODE((tmp_path / "wrap_key").stat().st_mode) == 0o600
        assert strongroom("key", "generate", "wrap_key").status == 2
        assert (tmp_path / "wrap_key").read_bytes() == first
        assert strongroom("key", "generate", "wrap_key", "--force").status == 0
        assert (tmp_path / "wrap_key").read_bytes() != first
        assert strongroom("key", "generate", "absent/wrap_key").status == 2

    def test_which_broker(self, strongroom: Command, tmp_path: Path) -> None:
        ended = strongroom("key", "list")
        assert (ended.status, "STRONGROOM_OWNER" in ended.err) == (2, True)
        strongroom("broker", "init", "b", "--port", 9)
        assert strongroom("key", "list", "--owner", tmp_path / "b" / "owner").status == 5


class TestAuthorize:
    def test_pins_the_measurement_and_the_keys(self, as_owner: Command, live: Parts, workload: Path) -> None:
        ended = as_owner("authorize", workload, "--accept-simulated")
        assert ended.status == 0, ended.err
        assert "SIMULATED" in ended.err
        (grant,) = live.grants.all()
        assert grant.name == "loan-train"
        assert [str(key) for key in grant.keys] == ["loan/key/book", "loan/key/model"]
        assert grant.policy.to_json()["measurements"] == [
            {"mr_enclave": measure(load_workload(workload)).mr_enclave.hex()}
        ]
        assert grant.policy.tcb_statuses == frozenset({"UpToDate"})

    def test_changed_code_needs_a_new_word_of_the_owner(self, as_owner: Command, live: Parts, workload: Path) -> None:
        as_owner("authorize", workload, "--accept-simulated")
        before = live.grants.all()
        (workload.parent / "train.py").write_text("print('other')\n")
        ended = as_owner("authorize", workload, "--accept-simulated")
        assert (ended.status, "--replace" in ended.err) == (2, True)
        assert live.grants.all() == before
        assert as_owner("authorize", workload, "--accept-simulated", "--replace").status == 0
        assert live.grants.all() != before

    def test_hardware(self, as_owner: Command, live: Parts, workload: Path) -> None:
        ended = as_owner(
            "authorize",
            workload,
            *("--mr-enclave", "ab" * 32, "--mr-signer", "cd" * 32, "--until", "2099-12-31", "--min-tcb-eval", 17),
            *("--tcb-status", "UpToDate", "--tcb-status", "SWHardeningNeeded"),
            *("--accept-advisory", "INTEL-SA-00615=2027-03-31", "--json"),
        )
        assert ended.status == 0, ended.err
        shown = json.loads(ended.out)
        (grant,) = live.grants.all()
        assert shown == grant.to_json() | {"policy_digest": grant.policy.digest.hex()}
        assert shown["not_after"] == "2099-12-31T23:59:59Z"
        policy = shown["policy"]
        assert {"mr_enclave": "ab" * 32} in policy["measurements"]
        assert {"mr_signer": "cd" * 32, "isv_prod_id": 7, "min_isv_svn": 3} in policy["measurements"]
        assert policy["tcb_statuses"] == ["SWHardeningNeeded", "UpToDate"]
        assert policy["advisories"] == {"INTEL-SA-00615": "2027-03-31"}
        assert policy["min_tcb_eval_data_number"] == 17
        assert policy["accept_simulated"] is False

    def test_never_guesses_a_measurement(self, as_owner: Command, live: Parts, workload: Path) -> None:
        ended = as_owner("authorize", workload)
        assert (ended.status, "[authorize.measurement]" in ended.err) == (2, True)
        assert live.grants.all() == []

    @pytest.mark.parametrize(
        "options",
        [
            ("--mr-enclave", "xyz"),
            ("--mr-enclave", "ab"),
            ("--mr-signer", "ab" * 31),
            ("--accept-simulated", "--tcb-status", "Revoked"),
            ("--accept-simulated", "--tcb-status", "uptodate"),
            ("--accept-simulated", "--accept-advisory", "INTEL-SA-00615"),
            ("--accept-simulated", "--accept-advisory", "INTEL-SA-00615=soon"),
            ("--accept-simulated", "--accept-advisory", "=2027-01-01"),
            ("--accept-simulated", "--until", "31.12.2099"),
            ("--accept-simulated", "--min-tcb-eval", "-1"),
        ],
    )
    def test_odd_options(self, as_owner: Command, live: Parts, workload: Path, options: tuple[str, ...]) -> None:
        assert as_owner("authorize", workload, *options).status == 2
        assert live.grants.all() == []

    def test_dry_run_sends_nothing_and_needs_no_broker(self, strongroom: Command, workload: Path) -> None:
        ended = strongroom("authorize", workload, "--accept-simulated", "--dry-run")
        assert ended.status == 0
        assert json.loads(ended.out)["name"] == "loan-train"

    def test_revoke(self, as_owner: Command, live: Parts, workload: Path) -> None:
        as_owner("authorize", workload, "--accept-simulated")
        assert as_owner("revoke", "loan-train").status == 0
        assert live.grants.all() == []
        assert as_owner("revoke", "loan-train").status == 2
        assert as_owner("revoke", "../keys").status == 2

    def test_grants(self, as_owner: Command, workload: Path) -> None:
        as_owner("authorize", workload, "--accept-simulated", "--until", "2099-12-31")
        line = as_owner("broker", "grants").out
        assert "loan-train  loan/key/book loan/key/model" in line
        assert "SIMULATED accepted" in line
        assert "until 2099-12-31 23:59 UTC" in line
        assert json.loads(as_owner("broker", "grants", "--json").out)[0]["name"] == "loan-train"


class TestLog:
    @pytest.fixture(params=["folder", "owner"])
    def log(self, request: pytest.FixtureRequest, as_owner: Command, tmp_path: Path) -> Command:
        """`broker log`, read from the folder or asked from the broker."""
        where = [tmp_path / "broker"] if request.param == "folder" else []
        return lambda *options: as_owner("broker", "log", *where, *options)

    def test_shows_every_decision(self, log: Command, as_owner: Command, live: Parts) -> None:
        as_owner("key", "create", "loan/key/book")
        ended = log("--verify")
        assert ended.status == 0, ended.err
        first, second = ended.out.splitlines()
        assert "allow  broker.init" in first
        assert "allow  key.create  loan/key/book@1" in second
        assert f"checked: 2 records, last leaf hash {live.log.read()[-1].leaf_hash.hex()}" in ended.err
        records = [json.loads(line) for line in log("--json").out.splitlines()]
        assert [record["event"] for record in records] == ["broker.init", "key.create"]

    def test_ends_with_an_error_when_the_log_was_altered(self, log: Command, as_owner: Command, live: Parts) -> None:
        as_owner("key", "create", "loan/key/book")
        with live.store.writing() as connection:
            connection.execute(sa.update(audit).where(audit.c.seq == 1).values(record=b'{"seq":1}'))
        ended = log()
        assert ended.status == 3
        assert "[audit.record]" in ended.err

    def test_verify_remembers_the_end_and_notices_a_rolled_back_database(
        self, as_owner: Command, live: Parts, tmp_path: Path
    ) -> None:
        as_owner("key", "create", "loan/key/book")
        assert as_owner("broker", "log", "--verify").status == 0
        with live.store.writing() as connection:
            connection.execute(sa.delete(audit).where(audit.c.seq > 1))
        assert as_owner("broker", "log").status == 0  # consistent in itself
        ended = as_owner("broker", "log", "--verify")
        assert ended.status == 3
        assert "[audit.rolled_back]" in ended.err
        as_owner("key", "create", "loan/key/other")  # the log goes on from there
        assert as_owner("broker", "log", "--verify").status == 3

    @pytest.fixture
    def while_it_waits(self, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
        """What happens in each pause of `--follow`; Ctrl-C in the one after the last."""

        def script(*events: Callable[[], object]) -> None:
            pending = iter(events)

            def pause(_seconds: float) -> None:
                event = next(pending, None)
                if event is None:
                    raise KeyboardInterrupt
                event()

            monkeypatch.setattr("strongroom.cli.broker.time", SimpleNamespace(sleep=pause))

        return script

    def test_following_remembers_each_stretch_although_ctrl_c_ends_it(
        self, as_owner: Command, live: Parts, while_it_waits: Callable[..., None], tmp_path: Path
    ) -> None:
        head = tmp_path / "broker" / "owner" / FILE_NAME
        remembered: list[LogHead | None] = []

        def decide() -> None:
            remembered.append(read_head(head))
            live.log.append(Entry("attest", "deny", name="later"), datetime.now(UTC))

        while_it_waits(decide, decide)
        ended = as_owner("broker", "log", "--verify", "--follow")
        assert [line.split()[0] for line in ended.out.splitlines()] == ["1", "2", "3"]
        assert [*remembered, read_head(head)] == [LogHead(r.seq, r.leaf_hash) for r in live.log.read()]

    def test_following_notices_a_database_that_is_rolled_back_meanwhile(
        self, log: Command, live: Parts, while_it_waits: Callable[..., None]
    ) -> None:
        live.log.append(Entry("attest", "deny", name="forgotten"), datetime.now(UTC))

        def roll_back() -> None:
            with live.store.writing() as connection:
                connection.execute(sa.delete(audit).where(audit.c.seq > 1))

        while_it_waits(roll_back)
        ended = log("--follow")
        assert ended.status == 3
        assert "[audit.rolled_back]" in ended.err

    def test_shows_why_somebody_was_refused_on_one_line(self, log: Command, live: Parts) -> None:
        finding = Finding("measurement.mr_enclave", "found \x1b[31m\nred")
        who: dict[str, JsonValue] = {"simulated": True, "tee": "sgx", "mr_enclave": "ab" * 32, "tcb_status": "UpToDate"}
        live.log.append(Entry("attest", "deny", name="loan-train", who=who, findings=(finding,)), datetime.now(UTC))
        line = log().out.splitlines()[-1]
        assert "deny   attest  loan-train  SIMULATED abababababababab UpToDate  measurement.mr_enclave: found" in line
        assert "\x1b" not in line

    def test_folder_that_is_no_broker(self, strongroom: Command, tmp_path: Path) -> None:
        assert strongroom("broker", "log", tmp_path).status == 2


def test_help_of_every_command_has_an_example(strongroom: Command) -> None:
    verbs = [("broker", verb) for verb in ("init", "serve", "renew", "collateral", "grants", "log")]
    verbs += [("key", verb) for verb in ("create", "list", "export", "delete", "generate")]
    for command in [*verbs, ("authorize",), ("revoke",)]:
        assert "Example" in strongroom(*command, "--help").out, command
