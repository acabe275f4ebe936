import io
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import FormatError
from strongroom.loan.book import LoanBook
from strongroom.loan.problems import LoanRowsError
from strongroom.loan.schema import FILE_ORDER, INPUT_NAMES, TARGET
from strongroom.loan.table import read_csv
from strongroom.loan.writing import write_csv

HEADER = ",".join(FILE_ORDER) + "\n"
GOOD = "22,59000,RENT,123.0,PERSONAL,D,35000,16.02,1,0.59,Y,3\n"


def read(text: str | bytes, *, labelled: bool | None = True, extra: tuple[str, ...] = ()) -> LoanBook:
    raw = text.encode() if isinstance(text, str) else text
    return read_csv(io.BytesIO(raw), labelled=labelled, extra=extra)


def problems(text: str) -> list[tuple[int, str, str]]:
    with pytest.raises(LoanRowsError) as refused:
        read(text)
    assert refused.value.code == "loan.rows"
    return [(p.row, p.column, p.kind) for p in refused.value.problems]


def changed(name: str, cell: str) -> str:
    cells = GOOD.rstrip("\n").split(",")
    cells[FILE_ORDER.index(name)] = cell
    return ",".join(cells) + "\n"


def test_reads_the_public_data_set(real_book: LoanBook) -> None:
    assert len(real_book) == 32_581
    assert real_book.target is not None
    assert real_book.target.mean() == pytest.approx(0.21816, abs=1e-5)
    missing = {name: int(np.isnan(values).sum()) for name, values in real_book.numbers.items()}
    assert missing["person_emp_length"] == 895
    assert missing["loan_int_rate"] == 3_116
    assert sum(missing.values()) == 895 + 3_116


def test_reads_rows_without_outcome(testdata: Path) -> None:
    with (testdata / "credit_risk" / "sample_10.csv").open("rb") as source:
        book = read_csv(source, labelled=False)
    assert len(book) == 10
    assert book.target is None


def test_what_is_written_reads_back_equal(small_book: LoanBook) -> None:
    sink = io.BytesIO()
    assert write_csv([small_book], sink) == 3_000
    sink.seek(0)
    book = read_csv(sink)
    for name, values in small_book.numbers.items():
        np.testing.assert_array_equal(book.numbers[name], values)
    for name, codes in small_book.codes.items():
        np.testing.assert_array_equal(book.codes[name], codes)
    np.testing.assert_array_equal(book.target, small_book.target)


@pytest.mark.parametrize(
    "text", ["\ufeff" + HEADER + GOOD, HEADER + GOOD.rstrip("\n"), (HEADER + GOOD).replace("\n", "\r\n")]
)
def test_accepts_byte_order_mark_open_end_and_crlf(text: str) -> None:
    assert len(read(text)) == 1


def test_columns_may_come_in_any_order() -> None:
    names, cells = FILE_ORDER[::-1], GOOD.strip().split(",")[::-1]
    book = read(",".join(names) + "\n" + ",".join(cells) + "\n")
    assert book.numbers["person_income"][0] == 59_000


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        HEADER.encode(),
        HEADER.rstrip("\n").encode(),
        (HEADER + "\n\n\n").encode(),
        (HEADER + GOOD).encode("utf-16"),
        b"PK\x03\x04\x00\x00\x00" + bytes(50),
        b"\x1f\x8b\x08\x00",
    ],
    ids=["empty", "header", "header without end", "blank lines", "utf-16", "zip", "gzip"],
)
def test_refuses_what_is_no_loan_file(raw: bytes) -> None:
    with pytest.raises(FormatError) as refused:
        read(raw)
    assert refused.value.code in {"loan.csv", "loan.header"}


def test_refuses_another_encoding_in_a_cell() -> None:
    with pytest.raises(FormatError):
        read((HEADER + changed("loan_grade", "Ä")).encode("latin-1"))


def test_refuses_a_file_over_the_limit() -> None:
    with pytest.raises(FormatError, match="larger than 100 bytes"):
        read_csv(io.BytesIO((HEADER + GOOD).encode()), max_bytes=100)


@pytest.mark.parametrize("name", FILE_ORDER)
def test_names_a_missing_column(name: str) -> None:
    kept = [i for i, column in enumerate(FILE_ORDER) if column != name]
    cells = GOOD.strip().split(",")
    text = "\n".join(",".join(row[i] for i in kept) for row in (list(FILE_ORDER), cells)) + "\n"
    with pytest.raises(FormatError, match=f"missing: '{name}'") as refused:
        read(text)
    assert refused.value.code == "loan.header"


def test_names_an_extra_column_and_one_that_is_there_twice() -> None:
    with pytest.raises(FormatError, match="unknown: 'salary'"):
        read(HEADER.replace("\n", ",salary\n") + GOOD.replace("\n", ",1\n"))
    with pytest.raises(FormatError, match="more than once: 'loan_grade'"):
        read(HEADER.replace("\n", ",loan_grade\n") + GOOD.replace("\n", ",A\n"))


@pytest.mark.parametrize("text", [GOOD * 3, HEADER.replace(",", ";") + GOOD, "name,born\nMiller,1970\n"])
def test_a_first_line_that_is_no_header_is_not_repeated(text: str) -> None:
    # Without its header line a file begins with somebody's loan.
    with pytest.raises(FormatError, match=r"the first line of the loan file is not its header$") as refused:
        read(text)
    assert refused.value.code == "loan.header"
    assert refused.value.hint == f"it is {HEADER.strip()}"


def test_keeps_a_named_extra_column_aside() -> None:
    book = read(HEADER.replace("\n", ",group\n") + GOOD.replace("\n", ",north\n"), extra=("group",))
    assert book.extra["group"].tolist() == ["north"]


@pytest.mark.parametrize(
    ("name", "cell", "kind"),
    [
        ("person_age", "nan", "type"),
        ("person_age", "", "missing"),
        ("person_age", "22.5", "type"),
        ("person_age", "-5", "range"),
        ("person_age", "2_2", "type"),
        ("person_age", "0x16", "type"),
        ("person_income", "inf", "type"),
        ("person_income", "-Infinity", "type"),
        ("person_income", "1e400", "range"),
        ("person_income", "0", "range"),
        ("person_income", "12 000", "type"),
        ("loan_int_rate", "NaN", "type"),
        ("loan_int_rate", "100.1", "range"),
        ("loan_percent_income", "", "missing"),
        ("loan_status", "2", "range"),
        ("loan_status", "0.5", "type"),
        ("loan_status", "", "missing"),
        ("loan_grade", "H", "category"),
        ("loan_grade", "", "category"),
        ("person_home_ownership", "rent", "category"),
        ("loan_intent", "PERSONAL ", "category"),
        ("cb_person_default_on_file", "Y\x00", "category"),
    ],
)
def test_names_row_column_and_kind(name: str, cell: str, kind: str) -> None:
    assert problems(HEADER + GOOD + changed(name, cell) + GOOD) == [(2, name, kind)]


def test_names_rows_with_too_many_or_too_few_cells_and_counts_on_after_them() -> None:
    text = (
        HEADER
        + GOOD
        + "1,2\n"
        + GOOD
        + changed("loan_grade", "X")
        + GOOD.replace("\n", ",9\n")
        + changed("person_age", "x")
    )
    assert problems(text) == [
        (2, "", "columns"),
        (4, "loan_grade", "category"),
        (5, "", "columns"),
        (6, "person_age", "type"),
    ]


def test_lists_the_first_twenty_and_says_how_many_more() -> None:
    with pytest.raises(LoanRowsError, match="57 wrong cells") as refused:
        read(HEADER + GOOD + changed("person_age", "x") * 57)
    assert [p.row for p in refused.value.problems] == list(range(2, 22))
    assert refused.value.more == 37


def test_a_file_full_of_rows_of_another_length_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strongroom.loan.diagnosis.MAX_BAD_ROWS", 30)
    with pytest.raises(LoanRowsError) as refused:
        read(HEADER + "1\n" * 50 + changed("loan_grade", "X") * 500)
    assert [(p.row, p.kind) for p in refused.value.problems] == [(row, "columns") for row in range(1, 21)]
    assert refused.value.more == 10


def test_rows_of_another_length_do_not_make_the_search_for_wrong_cells_slow() -> None:
    text = HEADER + "1\n" * 90_000 + changed("person_age", "x") * 60_000
    started_s = time.process_time()
    with pytest.raises(LoanRowsError) as refused:
        read(text)
    assert refused.value.more == 149_980
    assert time.process_time() - started_s < 5  # with one pass over the former for each of the latter: minutes


def test_rows_are_numbered_across_blocks() -> None:
    rows = 200_000
    assert problems(HEADER + GOOD * rows + changed("loan_grade", "?")) == [(rows + 1, "loan_grade", "category")]


def test_never_repeats_a_cell() -> None:
    with pytest.raises(LoanRowsError) as refused:
        read(HEADER + changed("person_income", "CONFIDENTIAL"))
    assert "CONFIDENTIAL" not in str(refused.value) + repr(refused.value.problems)


def test_missing_values_are_accepted_only_where_the_schema_says_so() -> None:
    for name in ("person_emp_length", "loan_int_rate", "cb_person_cred_hist_length"):
        assert np.isnan(read(HEADER + changed(name, "")).numbers[name][0])


cells = st.sampled_from(
    ["", "1", "22", "RENT", "A", "nan", "inf", '"', "'", "\x00", "é", "1e9", "-1", "PERSONAL", "Y", ",", "\n", "\r"]
)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300) | st.lists(cells, max_size=60).map(lambda parts: (HEADER + ",".join(parts)).encode()))
def test_any_bytes_give_a_book_or_a_documented_error(raw: bytes) -> None:
    try:
        book = read_csv(io.BytesIO(raw), labelled=None)
    except FormatError as error:
        assert error.code in {"loan.csv", "loan.header", "loan.rows"}
    else:
        assert len(book) > 0


def test_target_is_optional_only_when_asked() -> None:
    without = (
        ",".join(INPUT_NAMES)
        + "\n"
        + ",".join(cell for name, cell in zip(FILE_ORDER, GOOD.strip().split(","), strict=True) if name != TARGET)
    )
    assert read(without, labelled=None).target is None
    assert read(HEADER + GOOD, labelled=None).target is not None
    assert read(HEADER + GOOD, labelled=False).target is None
    with pytest.raises(FormatError):
        read(without, labelled=True)
