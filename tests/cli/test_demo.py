"""`strongroom demo` with wrong input; the demonstration itself is run by CI (`make demo`)."""

import subprocess
import sys
from pathlib import Path

import pytest

from strongroom.cli.demo import MARKER


def demo(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "strongroom", "demo", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "person_age\n"])
def test_what_is_no_loan_book_costs_no_earlier_demonstration(tmp_path: Path, text: str) -> None:
    earlier, book = tmp_path / "demo-room", tmp_path / "loans.csv"
    earlier.mkdir()
    (earlier / MARKER).touch()
    (earlier / "report.html").write_text("earlier")
    book.write_text(text)
    ended = demo("--data", book, "--out", earlier)
    assert ended.returncode == 3
    assert "[loan." in ended.stderr
    assert (earlier / "report.html").read_text() == "earlier"


def test_a_book_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    ended = demo("--data", tmp_path / "absent.csv", "--out", tmp_path / "room")
    assert ended.returncode == 2
    assert "absent.csv" in ended.stderr
    assert not (tmp_path / "room").exists()


def test_refuses_a_folder_that_is_no_demonstration(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("mine")
    ended = demo("--out", tmp_path)
    assert ended.returncode == 2
    assert (tmp_path / "work").read_text() == "mine"
