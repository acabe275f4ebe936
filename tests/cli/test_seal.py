"""`strongroom seal`, `open` and `inspect`, through the real `main`."""

import io
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from strongroom.cli.main import main
from strongroom.room.files import create_sealed, open_sealed

KEY = bytes(range(16))
PLAIN = b"age,income\n" + b"23,50000\n" * 150_000  # more than one piece of 1 MiB


@dataclass
class Done:
    status: int
    out: bytes
    err: str


Run = Callable[..., Done]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key").write_bytes(KEY)
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "loans.csv").write_bytes(PLAIN)
    (tmp_path / "data").mkdir()
    before = signal.getsignal(signal.SIGTERM)

    def run_main(*arguments: str, key: str | None = "key", stdin: bytes = b"") -> Done:
        with_key = ["--key-file", key] if key else []
        monkeypatch.setattr(sys, "argv", ["strongroom", *arguments, *with_key])
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(stdin)))
        try:
            main()
        except SystemExit as end:
            status = end.code
        else:
            status = 0
        finally:
            signal.signal(signal.SIGTERM, before)
        sys.stdout.flush()
        out, err = capfdbinary.readouterr()
        return Done(int(status or 0), out, err.decode())

    return run_main


@pytest.fixture
def sealed(run: Run, tmp_path: Path) -> Path:
    assert run("seal", "loans.csv", "data/loans.csv").status == 0
    return tmp_path / "data" / "loans.csv"


def test_seal_and_open(run: Run, sealed: Path, tmp_path: Path) -> None:
    with open_sealed("data/loans.csv", KEY) as reader:
        assert reader.read() == PLAIN
    done = run("open", "data/loans.csv", "plain.csv")
    assert (done.status, done.out) == (0, b"")
    assert (tmp_path / "plain.csv").read_bytes() == PLAIN
    assert stat.S_IMODE((tmp_path / "plain.csv").stat().st_mode) == 0o600


def test_opens_what_the_real_tool_sealed(run: Run, testdata: Path, tmp_path: Path) -> None:
    gramine = testdata / "gramine"
    key = str(gramine / "wrap_key")
    vector = next(
        v for v in json.loads((gramine / "vectors.json").read_text())["files"] if v["file"] == "v2/size_100000.pf"
    )
    shown = run("open", str(gramine / "v2/size_100000.pf"), "out", "--path", vector["path"], key=key)
    assert shown.status == 0
    assert (tmp_path / "out").stat().st_size == 100_000


def test_stdin_and_stdout(run: Run) -> None:
    assert run("seal", "-", "data/x", stdin=PLAIN).status == 0
    done = run("open", "data/x", "-")
    assert (done.status, done.out, done.err) == (0, PLAIN, "")


def test_folders_are_sealed_below_their_path(run: Run, tmp_path: Path) -> None:
    (tmp_path / "plain" / "deep").mkdir(parents=True)
    for name in ("a", "deep/b", "deep/empty"):
        (tmp_path / "plain" / name).write_bytes(name.encode() * (0 if name.endswith("empty") else 1000))
    (tmp_path / "plain" / "link").symlink_to("a")
    (tmp_path / "plain" / "loop").symlink_to(".")
    os.mkfifo(tmp_path / "plain" / "fifo")
    done = run("seal", "plain", "models/", "--path", "./m//")
    assert done.status == 0
    assert done.err.count("skipped, a symbolic link") == 2
    assert "skipped, not a regular file: plain/fifo" in done.err
    assert sorted(str(p.relative_to(tmp_path)) for p in (tmp_path / "models").rglob("*") if p.is_file()) == [
        "models/a",
        "models/deep/b",
        "models/deep/empty",
    ]
    with open_sealed("models/deep/b", KEY, sealed_path="m/deep/b") as reader:
        assert reader.read() == b"deep/b" * 1000
    assert run("open", "models", "back", "--path", "m").status == 0
    assert (tmp_path / "back/deep/b").read_bytes() == b"deep/b" * 1000
    assert stat.S_IMODE((tmp_path / "back").stat().st_mode) == 0o700


def test_folders_of_the_output_are_made(run: Run, tmp_path: Path) -> None:
    assert run("seal", "loans.csv", "new/deep/loans.csv").status == 0
    assert run("open", "new/deep/loans.csv", "plain/deep/loans.csv").status == 0
    assert (tmp_path / "plain" / "deep" / "loans.csv").read_bytes() == PLAIN


def test_refuses_a_swap_of_two_files_of_a_folder(run: Run, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    for name in ("a", "b"):
        (tmp_path / "plain" / name).write_text(name)
    run("seal", "plain", "models")
    (tmp_path / "models/a").rename(tmp_path / "models/c")
    (tmp_path / "models/b").rename(tmp_path / "models/a")
    done = run("open", "models", "back")
    assert done.status == 3
    assert "sealed.wrong_path" in done.err
    assert not (tmp_path / "back" / "a").exists()


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda raw: raw[:-4096], "sealed.truncated"),
        (lambda raw: raw[:-1], "sealed.truncated"),
        (lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]), "sealed.tampered"),
        (lambda raw: raw[:100] + bytes([raw[100] ^ 1]) + raw[101:], "sealed.wrong_key"),
        (lambda raw: raw[:8] + b"\x07" + raw[9:], "sealed.version"),
        (lambda _raw: b"", "sealed.not_sealed"),
    ],
)
@pytest.mark.parametrize("target", ["out", "-"])
def test_nothing_of_a_damaged_file_comes_out(
    run: Run, sealed: Path, tmp_path: Path, damage: Callable[[bytes], bytes], code: str, target: str
) -> None:
    sealed.write_bytes(damage(sealed.read_bytes()))
    done = run("open", "data/loans.csv", target)
    assert (done.status, done.out) == (3, b"")
    assert f"[{code}]" in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "key", "loans.csv"]


def test_a_damaged_file_leaves_an_earlier_output_alone(run: Run, sealed: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("earlier")
    sealed.write_bytes(sealed.read_bytes()[:-1] + b"\0")
    assert run("open", "data/loans.csv", "out", "--force").status == 3
    assert (tmp_path / "out").read_text() == "earlier"


def test_wrong_key_and_wrong_path(run: Run, sealed: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(bytes(16))
    (tmp_path / "other").chmod(0o600)
    done = run("open", "data/loans.csv", "out", key="other")
    assert (done.status, "[sealed.wrong_key]" in done.err) == (3, True)
    sealed.rename(tmp_path / "moved")
    done = run("open", "moved", "out")
    assert (done.status, "[sealed.wrong_path]" in done.err) == (3, True)
    assert "hint: " in done.err
    assert run("open", "moved", "out", "--path", "./data//loans.csv").status == 0
    assert run("open", "moved", "out2", "--any-path").status == 0


def test_pin_refuses_an_older_copy(run: Run, sealed: Path, tmp_path: Path) -> None:
    old = sealed.read_bytes()
    assert run("seal", "key", "data/loans.csv", "--force").status == 0
    pin = json.loads(run("inspect", "data/loans.csv", "--json", key=None).out)["pin"]
    assert run("open", "data/loans.csv", "new", "--pin", pin).status == 0
    sealed.write_bytes(old)
    done = run("open", "data/loans.csv", "out", "--pin", pin)
    assert (done.status, "[sealed.pin]" in done.err) == (3, True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("pin", ["", "00", "zz" * 32, "00" * 33, " " + "00" * 32])
def test_refuses_what_is_no_pin(run: Run, sealed: Path, pin: str) -> None:
    assert sealed.exists()
    assert run("open", "data/loans.csv", "out", "--pin", pin).status == 2


def test_refuses_to_replace_an_output(run: Run, sealed: Path, tmp_path: Path) -> None:
    before = sealed.read_bytes()
    done = run("seal", "loans.csv", "data/loans.csv")
    assert (done.status, "[output.exists]" in done.err) == (2, True)
    assert sealed.read_bytes() == before
    (tmp_path / "out").write_text("earlier")
    assert run("open", "data/loans.csv", "out").status == 2
    assert (tmp_path / "out").read_text() == "earlier"


def test_a_folder_job_checks_all_outputs_before_it_writes_any(run: Run, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    for name in ("a", "b"):
        (tmp_path / "plain" / name).write_text(name)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "b").write_text("earlier")
    assert run("seal", "plain", "models").status == 2
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["b"]


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("loans.csv", "loans.csv"),
        ("loans.csv", "./data/../loans.csv"),
        ("loans.csv", "symlink"),
        ("loans.csv", "hardlink"),
        ("symlink", "loans.csv"),
        ("data", "data"),
        ("data", "data/sub/sealed"),
    ],
)
def test_refuses_an_output_that_is_the_input(run: Run, tmp_path: Path, source: str, target: str) -> None:
    (tmp_path / "data" / "x").write_text("x")
    (tmp_path / "symlink").symlink_to("loans.csv")
    (tmp_path / "hardlink").hardlink_to(tmp_path / "loans.csv")
    done = run("seal", source, target, "--force")
    assert (done.status, "[output.is_input]" in done.err) == (2, True)
    assert (tmp_path / "loans.csv").read_bytes() == PLAIN


def test_refuses_streams_that_can_not_be(run: Run, sealed: Path) -> None:
    assert sealed.exists()
    wrong: tuple[tuple[str, ...], ...] = (
        ("seal", "loans.csv", "-"),
        ("open", "-", "out"),
        ("open", "data", "-"),
        ("open", "absent", "out"),
        ("open", "data/loans.csv", "out", "--path", "p", "--any-path"),
        ("open", "data", "out", "--pin", "00" * 32),
        ("seal", "loans.csv", "data"),
        ("seal", "loans.csv", "loans.csv/here"),
        ("seal", "loans.csv", "x", "--path", "a/.."),
        ("inspect", "data"),
    )
    for arguments in wrong:
        assert run(*arguments).status == 2, arguments


@pytest.mark.parametrize("content", [b"", b"short", bytes(17), b"00" * 16, b"00" * 16 + b"\n"])
def test_refuses_a_key_file_that_is_no_key_and_does_not_show_it(run: Run, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad").write_bytes(content)
    done = run("seal", "loans.csv", "data/x", key="bad")
    assert (done.status, "[key.length]" in done.err) == (2, True)
    assert not content or content.decode("latin1").strip() not in done.err
    assert not (tmp_path / "data" / "x").exists()


def test_key_file_faults(run: Run, tmp_path: Path) -> None:
    assert "[key.missing]" in run("seal", "loans.csv", "data/x", key=None).err
    assert "[key.unreadable]" in run("seal", "loans.csv", "data/x", key="absent").err
    assert "warning" not in run("seal", "loans.csv", "data/x").err
    (tmp_path / "key").chmod(0o640)
    done = run("seal", "loans.csv", "data/y")
    assert (done.status, "chmod 600 key" in done.err) == (0, True)


def test_binary_data_does_not_reach_a_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("seal", "-", "data/binary", stdin=b"\x1b]0;owned\x07" * 9)
    run("seal", "-", "data/latin1", stdin=b"caf\xe9 and more")
    run("seal", "-", "data/text", stdin="grüße\n".encode() * 20_000)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for name in ("binary", "latin1"):
        done = run("open", f"data/{name}", "-")
        assert (done.status, done.out) == (2, b"")
        assert "[output.terminal]" in done.err
    assert run("open", "data/text", "-").out == "grüße\n".encode() * 20_000
    assert run("open", "data/binary", "-", "--force").out == b"\x1b]0;owned\x07" * 9


def test_inspect_without_the_key(run: Run, sealed: Path) -> None:
    done = run("inspect", "data/loans.csv", key=None)
    assert done.status == 0
    text = done.out.decode()
    assert f"{sealed.stat().st_size} bytes" in text
    assert "bound to" not in text
    facts = json.loads(run("inspect", "data/loans.csv", "--json", key=None).out)
    assert set(facts) == {"file", "version", "host_size_bytes", "pin", "pending_write", "warnings"}
    assert run("inspect", "data/loans.csv", "--verify", key=None).status == 2


def test_inspect_with_the_key(run: Run, sealed: Path) -> None:
    facts = json.loads(run("inspect", "data/loans.csv", "--json").out)
    assert (facts["sealed_path"], facts["size_bytes"], facts["verified"]) == ("data/loans.csv", len(PLAIN), False)
    sealed.write_bytes(sealed.read_bytes()[:-1] + b"\0")
    assert run("inspect", "data/loans.csv").status == 0  # the data is not read
    assert "[sealed.tampered]" in run("inspect", "data/loans.csv", "--verify").err


def test_inspect_says_everything_is_verified(run: Run, sealed: Path) -> None:
    assert sealed.exists()
    assert "every node" in run("inspect", "data/loans.csv", "--verify").out.decode()


def test_inspect_warns_of_a_path_that_gramine_will_not_open(run: Run, tmp_path: Path) -> None:
    # What pf-crypt up to 1.3.1 wrote: the path as typed. `create_sealed` would normalise it.
    with create_sealed("data/old", KEY) as writer:
        writer.sealed_path = "./data//old"
    done = run("inspect", "data/old")
    assert "warning: the path is not normalised" in done.err
    assert "'data/old'" in done.err
    assert (tmp_path / "data" / "old").exists()


def test_inspect_warns_of_extra_nodes_and_of_a_pending_write(run: Run, sealed: Path, testdata: Path) -> None:
    with sealed.open("ab") as file:
        file.write(bytes(8192))
    assert "2 nodes after the end" in run("inspect", "data/loans.csv").err
    raw = bytearray((testdata / "gramine" / "v2" / "size_1.pf").read_bytes())
    raw[58] = 1
    sealed.write_bytes(raw)
    done = run("inspect", "data/loans.csv", "--json", key=None)
    assert json.loads(done.out)["pending_write"] is True
    assert any("not completely written" in warning for warning in json.loads(done.out)["warnings"])


def test_inspect_does_not_write_control_characters(run: Run) -> None:
    with create_sealed("data/x", KEY, sealed_path="evil\x1b[2J\n") as writer:
        writer.write(b"x")
    assert b"\x1b" not in run("inspect", "data/x").out


@pytest.mark.parametrize("noun", ["seal", "open", "inspect"])
def test_help_has_examples(run: Run, noun: str) -> None:
    done = run(noun, "--help", key=None)
    assert (done.status, b"Examples:" in done.out) == (0, True)


def test_a_terminated_open_leaves_no_plaintext_behind(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(KEY)
    (tmp_path / "key").chmod(0o600)
    program = """
import os, signal, sys
from strongroom.room import new_file
whole = new_file.NewFile.write_at
def write_then_die(self, data, offset):
    whole(self, data, offset)
    os.kill(os.getpid(), signal.SIGTERM)
new_file.NewFile.write_at = write_then_die
sys.argv = ["strongroom", "open", "sealed", "plain", "--key-file", "key", "--any-path"]
from strongroom.cli.main import main
main()
"""
    with create_sealed(tmp_path / "sealed", KEY) as writer:
        writer.write(PLAIN)
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, check=False, timeout=60)
    assert done.returncode == 143
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key", "sealed"]


def test_refuses_a_folder_that_can_not_be_read_whole(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is passed over in silence would be missing in the cloud, or left in the clear."""
    (tmp_path / "plain" / "closed").mkdir(parents=True)
    (tmp_path / "plain" / "a").write_bytes(b"1")
    real = os.scandir

    def scandir(path: str) -> object:
        if path.endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    done = run("seal", "plain", "sealed")
    assert (done.status, "plain/closed [file.permission]" in done.err) == (2, True)
    assert not (tmp_path / "sealed").exists()


def test_says_that_a_folder_holds_no_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "plain" / "deep").mkdir(parents=True)
    done = run("seal", "plain", "sealed")
    assert (done.status, "[input.empty]" in done.err) == (2, True)


@pytest.mark.parametrize("verb", ["seal", "open"])
def test_a_name_the_system_refuses_is_no_fault_of_ours(run: Run, verb: str) -> None:
    done = run(verb, "x" * 300, "out")
    assert (done.status, "[file.path]" in done.err) == (2, True)


def test_a_file_in_the_place_of_the_output_folder(run: Run) -> None:
    done = run("seal", "loans.csv", "key/loans.csv")
    assert (done.status, "[file.not_folder]" in done.err) == (2, True)
