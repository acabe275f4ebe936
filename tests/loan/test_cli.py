import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import strongroom
from strongroom.cli.loan import app
from strongroom.errors import ConfigurationError, FormatError, StrongroomError, WouldOverwrite
from strongroom.loan.book import LoanBook
from strongroom.loan.problems import LoanRowsError
from strongroom.loan.table import read_csv
from strongroom.loan.writing import write_csv


class Ran:
    """What one command did."""

    def __init__(self, arguments: tuple[str, ...]) -> None:
        result = CliRunner().invoke(app, list(arguments))
        self.error = result.exception if isinstance(result.exception, StrongroomError) else None
        if result.exception and not self.error:
            raise result.exception
        self.out, self.err = result.stdout, result.stderr

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run(*arguments: str) -> Ran:
    return Ran(arguments)


@pytest.fixture
def room(storage: Any, small_book: LoanBook, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A room that is a dictionary, with a loan book in it."""
    sink = io.BytesIO()
    write_csv([small_book], sink)
    storage.files["book/loans.csv"] = sink.getvalue()

    @contextmanager
    def enter() -> Iterator[Any]:
        yield storage

    monkeypatch.setattr(strongroom, "enter", enter, raising=False)
    return storage


@pytest.fixture
def trained(room: Any) -> Any:
    """A room with processed rows and a model."""
    assert run("process", "book/loans.csv").error is None
    assert run("train", "--rounds", "20").error is None
    return room


def test_the_verbs_in_their_order(trained: Any) -> None:
    scores = run("evaluate", "--fairness", "person_home_ownership=OWN,MORTGAGE", "--json").json
    assert 0.5 < scores["auc"] < 1
    assert {f"results/loan.{suffix}" for suffix in ("json", "csv", "html", "md")} <= set(trained.files)
    assert b"Fairness by person_home_ownership" in trained.files["results/loan.html"]
    assert b"Fairness by person" in trained.files["results/loan.md"]
    done = run("predict", "book/loans.csv", "--out", "results/p.csv", "--reasons", "--json").json
    assert done["rows"] == 3_000
    assert trained.files["results/p.csv"].startswith(b",Probability,Prediction,Reason1")
    assert run("report", "results/loan.json", "--out", "results/again.html").error is None
    assert trained.files["results/again.html"] == trained.files["results/loan.html"]


def test_continuing_shows_before_after_and_drift(trained: Any) -> None:
    assert run("process", "book/loans.csv", "--out", "november", "--seed", "9").error is None
    done = run("continue", "--data", "november", "--rounds", "3", "--always-serve", "--out", "results/c.json")
    assert "auc" in done.out
    assert "->" in done.out
    assert json.loads(trained.files["results/c.json"])["version"] == 2
    listed = run("versions", "--json").json
    assert (listed["champion"], len(listed["versions"])) == (2, 2)
    assert run("promote", "1").error is None
    assert run("versions").out.startswith("*    1")
    assert run("drift", "--data", "november", "--json").json["person_age"]["verdict"] == "stable"


def test_exports(trained: Any) -> None:
    assert run("export", "--format", "ubj", "--out", "exports/loan").out.split() == [
        "exports/loan.ubj",
        "exports/loan.preprocessor.json",
    ]
    names = run("export", "--format", "csv", "--out", "exports").out.split()
    assert names == [f"exports/{kind}_{side}_3000.csv" for side in ("train", "test") for kind in "Xy"]
    assert trained.files["exports/y_test_3000.csv"].count(b"\n") == 750
    refused = run("export", "--format", "joblib", "--out", "exports/loan")
    assert isinstance(refused.error, ConfigurationError)


def test_wrong_rows_are_listed_on_stderr(room: Any) -> None:
    lines = room.files["book/loans.csv"].splitlines(keepends=True)
    room.files["book/loans.csv"] = lines[0] + b"".join(line.replace(b"RENT", b"rent") for line in lines[1:])
    refused = run("process", "book/loans.csv")
    assert isinstance(refused.error, LoanRowsError)
    assert refused.err.count("person_home_ownership: category") == 17
    assert "processed/train.parquet" not in room.files


def test_a_kept_column_divides_the_rows(room: Any) -> None:
    lines = room.files["book/loans.csv"].splitlines()
    body = [line + (b",1" if i % 3 else b",0") for i, line in enumerate(lines[1:])]
    room.files["book/loans.csv"] = b"\n".join([lines[0] + b",bias_variable", *body, b""])
    assert isinstance(run("process", "book/loans.csv").error, FormatError)
    assert run("process", "book/loans.csv", "--keep", "bias_variable").error is None
    assert run("train", "--rounds", "20").error is None
    assert run("evaluate", "--fairness", "bias_variable=1").error is None
    assert json.loads(room.files["results/loan.json"])["fairness"][0]["column"] == "bias_variable"


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "book/loans.csv", "--model", "nobody"),
        ("predict", "book/loans.csv", "--model", "../loan"),
        ("predict", "book/loans.csv", "--threshold", "2"),
        ("evaluate", "--version", "9"),
        ("evaluate", "--fairness", "person_age"),
        ("evaluate", "--fairness", "loan_status=1"),
        ("train", "--rounds", "0"),
        ("train", "--default-weight", "much"),
        ("process", "book/loans.csv", "--test-share", "1"),
        ("process", "book/loans.csv", "--keep", "loan_status"),
        ("continue", "--data", "processed", "--rounds", "0"),
        ("promote", "7"),
        ("versions", "--model", "nobody"),
        ("export", "--format", "joblib", "--out", "x"),
    ],
    ids=" ".join,
)
def test_refuses_and_changes_nothing(trained: Any, arguments: tuple[str, ...]) -> None:
    before = dict(trained.files)
    refused = run(*arguments)
    assert isinstance(refused.error, ConfigurationError)
    assert trained.files == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("process", "book/loans.csv", "--seed", "5"),
        ("evaluate", "--threshold", "0.3"),
        ("predict", "book/loans.csv", "--threshold", "0.3"),
        ("predict", "book/loans.csv", "--reasons"),
        ("continue", "--data", "processed", "--rounds", "1", "--out", "predictions/loan.csv"),
        ("report", "results/loan.json"),
        ("export", "--format", "ubj", "--out", "exports/loan"),
        ("export", "--format", "onnx", "--out", "exports/loan"),
        ("export", "--format", "csv", "--out", "exports"),
    ],
    ids=" ".join,
)
def test_replaces_nothing_without_being_told_to(trained: Any, arguments: tuple[str, ...]) -> None:
    for first in (("evaluate",), ("predict", "book/loans.csv")):
        assert run(*first).error is None
    for to in ("ubj", "onnx"):
        assert run("export", "--format", to, "--out", "exports/loan").error is None
    assert run("export", "--format", "csv", "--out", "exports").error is None
    before = dict(trained.files)
    refused = run(*arguments)
    assert isinstance(refused.error, WouldOverwrite)
    assert refused.error.hint is not None
    assert trained.files == before
    assert run(*arguments, "--force").error is None


def test_what_a_data_step_did_is_shown_without_what_is_unset(room: Any) -> None:
    lines = run("process", "book/loans.csv").out.splitlines()
    assert "seed               0" in lines
    assert not any("None" in line or "{" in line for line in lines)
    assert run("process", "book/loans.csv", "--out", "again", "--json").json["settings"]["size"] is None


def test_sample_writes_a_readable_book_and_does_not_replace_a_file(tmp_path: Path) -> None:
    out = tmp_path / "loans.csv"
    assert run("sample", "--rows", "500", "--out", str(out)).error is None
    with out.open("rb") as source:
        assert len(read_csv(source)) == 500
    assert isinstance(run("sample", "--rows", "5", "--out", str(out)).error, WouldOverwrite)
    assert run("sample", "--rows", "5", "--out", str(out), "--force").error is None


def test_outside_a_workload_the_verbs_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STRONGROOM_WORKLOAD", "STRONGROOM_ROOM"):
        monkeypatch.delenv(name, raising=False)
    refused = run("train")
    assert isinstance(refused.error, ConfigurationError)
    assert refused.error.hint is not None
    assert "workload run" in refused.error.hint
