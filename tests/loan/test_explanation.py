import io

import numpy as np
import pytest

from strongroom.loan.book import LoanBook
from strongroom.loan.bundle import Bundle
from strongroom.loan.explanation import STATEMENTS, contributions, explain, write_reasons
from strongroom.loan.prediction import Predictions, predict_book
from strongroom.loan.presets import TrainSettings
from strongroom.loan.training import train


@pytest.fixture(scope="module")
def bundle(small_book: LoanBook) -> Bundle:
    trained = train(small_book, TrainSettings(rounds=40))
    return Bundle(trained.booster, trained.preprocessor)


def test_contributions_add_up_to_the_prediction(bundle: Bundle, small_book: LoanBook) -> None:
    found = contributions(bundle, small_book)
    margin = found.values.sum(axis=1) + found.bias
    np.testing.assert_allclose(1 / (1 + np.exp(-margin)), predict_book(bundle, small_book), atol=1e-5)


def test_a_column_is_one_reason_however_many_features_it_makes(bundle: Bundle, small_book: LoanBook) -> None:
    found = contributions(bundle, small_book)
    assert len(found.columns) == len(set(found.columns)) == 12
    assert set(found.columns) == set(STATEMENTS)


def test_reasons_are_the_four_that_raise_the_risk_most_in_order(bundle: Bundle, small_book: LoanBook) -> None:
    found = contributions(bundle, small_book)
    for row, reasons in enumerate(explain(bundle, small_book)):
        values = [reason.contribution for reason in reasons]
        assert len(values) <= 4
        assert values == sorted(values, reverse=True)
        assert all(value > 0 for value in values)
        expected = sorted((v for v in found.values[row] if v > 0), reverse=True)[:4]
        assert values == pytest.approx(expected)


def test_a_column_without_influence_is_no_reason(small_book: LoanBook) -> None:
    constant = np.zeros(len(small_book), np.int8)
    book = LoanBook(small_book.numbers, {**small_book.codes, "loan_intent": constant}, small_book.target)
    trained = train(book, TrainSettings(rounds=20))
    found = contributions(Bundle(trained.booster, trained.preprocessor), book)
    assert not found.values[:, found.columns.index("loan_intent")].any()


def test_the_file_has_a_line_a_row_and_four_reasons(bundle: Bundle, small_book: LoanBook) -> None:
    sink = io.BytesIO()
    predictions = Predictions(predict_book(bundle, small_book))
    write_reasons(predictions, explain(bundle, small_book), sink)
    lines = sink.getvalue().decode().splitlines()
    assert lines[0] == ",Probability,Prediction,Reason1,Reason2,Reason3,Reason4"
    assert len(lines) == len(small_book) + 1
    assert {line.count(",") for line in lines} == {6}
    row, probability, label, first, *_ = lines[1].split(",")
    assert (row, label) == ("0", str(bool(predictions.labels[0])))
    assert float(probability) == pytest.approx(float(predictions.probabilities[0]))
    assert first.split(":")[0] in STATEMENTS
