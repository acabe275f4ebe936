import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import ConfigurationError, FormatError
from strongroom.loan.book import LoanBook, join
from strongroom.loan.sample import sample_book
from strongroom.loan.split import row_hashes, split_rows, without_copies


def test_each_class_is_held_out_by_its_share(real_book: LoanBook) -> None:
    assert real_book.target is not None
    split = split_rows(real_book, test_share=0.25)
    assert len(split.test) == pytest.approx(0.25 * len(real_book), rel=0.002)
    rates = [real_book.target[side].mean() for side in (split.train, split.test)]
    assert rates[0] == pytest.approx(rates[1], abs=0.001)


def test_the_sides_share_no_row_and_lose_none(real_book: LoanBook) -> None:
    split = split_rows(real_book)
    assert np.array_equal(np.sort(np.r_[split.train, split.test]), np.arange(len(real_book)))


def test_no_copy_of_a_held_out_row_is_trained_on(real_book: LoanBook) -> None:
    hashes = row_hashes(real_book)
    assert len(np.unique(hashes)) < len(hashes), "the public file has duplicate rows, which this test is about"
    split = split_rows(real_book)
    assert not np.isin(hashes[split.train], hashes[split.test]).any()


def test_equal_rows_with_different_outcomes_stay_together(small_book: LoanBook) -> None:
    assert small_book.target is not None
    twin = LoanBook(small_book.numbers, small_book.codes, (1 - small_book.target).astype(np.int8))
    both = join([small_book, twin])
    split = split_rows(both)
    hashes = row_hashes(both)
    assert not np.isin(hashes[split.train], hashes[split.test]).any()


def test_the_same_seed_gives_the_same_split_in_any_row_order(small_book: LoanBook) -> None:
    order = np.random.default_rng(1).permutation(len(small_book))
    first = split_rows(small_book, seed=3)
    second = split_rows(small_book.take(order), seed=3)
    assert np.array_equal(np.sort(order[second.test]), first.test)
    assert not np.array_equal(split_rows(small_book, seed=4).test, first.test)


def test_hashes_do_not_see_the_outcome_and_see_every_input(small_book: LoanBook) -> None:
    hashes = row_hashes(small_book)
    unlabelled = LoanBook(small_book.numbers, small_book.codes)
    assert np.array_equal(row_hashes(unlabelled), hashes)
    for name, values in small_book.numbers.items():
        other = LoanBook({**small_book.numbers, name: values + 1}, small_book.codes)
        changed = row_hashes(other) != hashes
        assert np.array_equal(changed, ~np.isnan(values))
    for name, codes in small_book.codes.items():
        other = LoanBook(small_book.numbers, {**small_book.codes, name: (codes + 1).astype(np.int8)})
        assert (row_hashes(other) != hashes).all()


def test_minus_zero_and_any_nan_hash_as_one_value(small_book: LoanBook) -> None:
    zero = np.zeros(len(small_book), np.float32)
    quiet = np.full(len(small_book), np.nan, np.float32)
    for one, other in ((zero, -zero), (quiet, -quiet)):
        books = [
            LoanBook({**small_book.numbers, "person_emp_length": v}, small_book.codes, small_book.target)
            for v in (one, other)
        ]
        assert np.array_equal(row_hashes(books[0]), row_hashes(books[1]))


def test_a_later_batch_is_checked_against_the_held_out_rows(small_book: LoanBook) -> None:
    held_out = small_book.take(np.arange(100, dtype=np.int64))
    assert np.array_equal(without_copies(small_book, held_out), np.arange(100, len(small_book)))


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_refuses_a_share_that_leaves_a_side_empty(small_book: LoanBook, share: float) -> None:
    with pytest.raises(ConfigurationError):
        split_rows(small_book, test_share=share)


def test_refuses_rows_without_outcome_or_with_one_class(small_book: LoanBook) -> None:
    with pytest.raises(FormatError):
        split_rows(LoanBook(small_book.numbers, small_book.codes))
    for value in (0, 1):
        single = LoanBook(small_book.numbers, small_book.codes, np.full(len(small_book), value, np.int8))
        with pytest.raises(FormatError) as refused:
            split_rows(single)
        assert refused.value.code == "loan.too_few"


@settings(max_examples=50, deadline=None)
@given(rows=st.integers(1, 60), seed=st.integers(0, 99), share=st.floats(0.05, 0.95))
def test_any_small_book_splits_cleanly_or_is_refused(rows: int, seed: int, share: float) -> None:
    book = join(list(sample_book(rows, seed)))
    try:
        split = split_rows(book, test_share=share, seed=seed)
    except FormatError:
        return
    assert book.target is not None
    for side in (split.train, split.test):
        assert 0 < book.target[side].sum() < len(side)
