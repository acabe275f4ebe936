"""The guide's table of errors is the code's."""

import re
from pathlib import Path

from strongroom.loan.service import problems

ROOT = Path(__file__).resolve().parents[3]
GUIDE = ROOT / "docs" / "guides" / "loan-service.md"
ROW = re.compile(r"\| (\d{3}) \| (`.+?`) \| .*\|")


def test_every_code_in_the_guide_is_in_the_code_with_its_status() -> None:
    source = "\n".join(path.read_text() for path in (ROOT / "src" / "strongroom").rglob("*.py"))
    rows = [found for line in GUIDE.read_text().splitlines() if (found := ROW.fullmatch(line))]
    assert len(rows) >= 15
    listed: dict[str, int] = {}
    for row in rows:
        for code in re.findall(r"`([a-z_.*]+)`", row[2]):
            listed[code] = int(row[1])
            assert code.endswith("*") or f'"{code}"' in source, code
    for code, status in problems.STATUS_OF_CODE.items():
        assert listed.get(code, status) == status, code
