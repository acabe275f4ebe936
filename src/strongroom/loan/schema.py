"""The loan book's columns: names, types, categories and ranges.

Source: the "Credit Risk Dataset" (Kaggle, laotse/credit-risk-dataset): twelve columns, one row a loan. The ranges are
wide on purpose: they refuse what can't be a loan (a negative income, a percentage of 1,000), not what is unusual.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Number:
    """A numeric column.

    Args:
        name: Column name, as in the header.
        low: Smallest allowed value.
        high: Largest allowed value.
        whole: Only whole numbers are allowed.
        optional: An empty cell is a missing value; else it is an error.
    """

    name: str
    low: float
    high: float
    whole: bool = False
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Category:
    """A column with a closed set of values, in the order of their codes 0, 1, ...

    Args:
        name: Column name, as in the header.
        values: Allowed values; the code of a value is its index.
        ordered: The order means something (loan grade A is better than B).
    """

    name: str
    values: tuple[str, ...]
    ordered: bool = False


TARGET: Final = "loan_status"

NUMBERS: Final = (
    Number("person_age", 16, 150, whole=True),
    Number("person_income", 1, 1e9),
    Number("person_emp_length", 0, 150, optional=True),
    Number("loan_amnt", 1, 1e9),
    Number("loan_int_rate", 0, 100, optional=True),
    Number("loan_percent_income", 0, 100),
    Number("cb_person_cred_hist_length", 0, 100, whole=True, optional=True),
)

CATEGORIES: Final = (
    Category("person_home_ownership", ("MORTGAGE", "OTHER", "OWN", "RENT")),
    Category("loan_intent", ("DEBTCONSOLIDATION", "EDUCATION", "HOMEIMPROVEMENT", "MEDICAL", "PERSONAL", "VENTURE")),
    Category("loan_grade", ("A", "B", "C", "D", "E", "F", "G"), ordered=True),
    Category("cb_person_default_on_file", ("N", "Y"), ordered=True),
)

STATUS: Final = Number(TARGET, 0, 1, whole=True)

# The order of the columns in the original file, which the files we write keep.
FILE_ORDER: Final = (
    "person_age",
    "person_income",
    "person_home_ownership",
    "person_emp_length",
    "loan_intent",
    "loan_grade",
    "loan_amnt",
    "loan_int_rate",
    TARGET,
    "loan_percent_income",
    "cb_person_default_on_file",
    "cb_person_cred_hist_length",
)

NUMBER_BY_NAME: Final = {column.name: column for column in (*NUMBERS, STATUS)}
CATEGORY_BY_NAME: Final = {column.name: column for column in CATEGORIES}
INPUT_NAMES: Final = tuple(name for name in FILE_ORDER if name != TARGET)
