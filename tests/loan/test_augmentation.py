import numpy as np
import pytest

from strongroom.loan.augmentation import augment, augment_as_reference
from strongroom.loan.book import LoanBook, join
from strongroom.loan.schema import NUMBER_BY_NAME, NUMBERS


def grown(book: LoanBook, size: int, seed: int = 0) -> tuple[LoanBook, np.ndarray, np.ndarray]:
    chunks = list(augment(book, size, seed=seed))
    return (
        join([c.book for c in chunks]),
        np.concatenate([c.source_row for c in chunks]),
        np.concatenate([c.augmented for c in chunks]),
    )


def test_the_first_rows_are_the_book_itself(small_book: LoanBook) -> None:
    book, source, augmented = grown(small_book, 10_000)
    assert not augmented[:3_000].any()
    assert augmented[3_000:].all()
    assert np.array_equal(source[:3_000], np.arange(3_000))
    for name, values in small_book.numbers.items():
        np.testing.assert_array_equal(book.numbers[name][:3_000], values)


def test_every_row_occurs_equally_often(small_book: LoanBook) -> None:
    _, source, _ = grown(small_book, 10_000)
    assert set(np.bincount(source)) == {3, 4}


def test_outcomes_are_those_of_the_source(small_book: LoanBook) -> None:
    assert small_book.target is not None
    book, source, _ = grown(small_book, 10_000)
    np.testing.assert_array_equal(book.target, small_book.target[source])


def test_noise_has_mean_zero_in_every_column(real_book: LoanBook) -> None:
    book, source, augmented = grown(real_book, 300_000)
    for column in NUMBERS:
        before = real_book.numbers[column.name][source[augmented]].astype(float)
        shift = book.numbers[column.name][augmented] - before
        shift = shift[~np.isnan(shift)]
        assert abs(shift.mean()) < 4 * shift.std() / np.sqrt(len(shift)), column.name
        assert shift.std() > 0, column.name


def test_category_shares_stay(real_book: LoanBook) -> None:
    book, _, _ = grown(real_book, 300_000)
    for name, codes in real_book.codes.items():
        old, new = (np.bincount(c, minlength=7) / len(c) for c in (codes, book.codes[name]))
        np.testing.assert_allclose(new, old, atol=0.003)


def test_values_stay_in_range_and_missing_stays_missing(real_book: LoanBook) -> None:
    book, source, _ = grown(real_book, 200_000)
    for column in NUMBERS:
        values = book.numbers[column.name]
        np.testing.assert_array_equal(np.isnan(values), np.isnan(real_book.numbers[column.name][source]))
        known = values[~np.isnan(values)]
        assert known.min() >= column.low
        assert known.max() <= column.high


def test_the_same_seed_gives_the_same_rows(small_book: LoanBook) -> None:
    first, second, other = (grown(small_book, 9_000, seed)[0] for seed in (5, 5, 6))
    for name in first.numbers:
        np.testing.assert_array_equal(first.numbers[name], second.numbers[name])
    assert any(not np.array_equal(first.numbers[n], other.numbers[n], equal_nan=True) for n in first.numbers)


def test_the_reference_way_has_its_documented_faults(small_book: LoanBook) -> None:
    book = join([c.book for c in augment_as_reference(small_book, 30_000, seed=0)])
    name = "loan_percent_income"
    shift = book.numbers[name] - np.repeat(small_book.numbers[name], 11)[:30_000]
    assert shift.min() >= -1e-6
    assert shift.mean() == pytest.approx(0.0495, abs=0.001)
    first = next(augment_as_reference(small_book, 30_000, seed=0))
    assert np.array_equal(first.source_row[:22], np.repeat([0, 1], 11))
    assert NUMBER_BY_NAME[name].low == 0
