"""What is wrong with a loan file: row-numbered, bounded, and without the cells' contents.

A message can leave the room in a log, so it says where and what was expected, and never what was found.
"""

from dataclasses import dataclass
from typing import Final

from strongroom.errors import FormatError

SHOWN: Final = 20


@dataclass(frozen=True, slots=True, order=True)
class RowProblem:
    """One wrong cell or row.

    Args:
        row: 1-based number of the data row (the header is row 0; blank lines don't count).
        column: Column name, or empty when the whole row is wrong.
        kind: ``columns``, ``missing``, ``type``, ``category`` or ``range``.
        expected: What the schema asks for, e.g. ``a number from 0 to 100``.
    """

    row: int
    column: str
    kind: str
    expected: str

    def __str__(self) -> str:
        where = f"row {self.row}" + (f", {self.column}" if self.column else "")
        return f"{where}: {self.kind}, expected {self.expected}"


class LoanRowsError(FormatError):
    """Rows of a loan file do not follow the schema.

    Args:
        problems: The first problems in row order, at most 20.
        more: How many problems were found beyond those. A file with 100,000 rows of another length is read no further.
    """

    default_code = "loan.rows"

    def __init__(self, problems: tuple[RowProblem, ...], more: int) -> None:
        self.problems = problems
        self.more = more
        total = len(problems) + more
        first = "; ".join(str(problem) for problem in problems[:3])
        rest = f"; and {total - 3} more" if total > 3 else ""
        super().__init__(
            f"{total} wrong {'cell' if total == 1 else 'cells'} in the loan file: {first}{rest}",
            hint="correct these rows, or leave them out; nothing was used",
        )
