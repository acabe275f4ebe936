import json
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import FormatError
from strongroom.loan import plots
from strongroom.loan.evaluation import evaluate_scores
from strongroom.loan.fairness import measure_fairness
from strongroom.loan.model_card import render_model_card
from strongroom.loan.report import Attested, render_report
from strongroom.loan.results import Results

RNG = np.random.default_rng(0)
SCORES = RNG.random(2_000).astype(np.float32)
WIDEST_LETTER_PX = 7.5
LABELS = (RNG.random(2_000) < SCORES).astype(np.int8)


def results(**changes: Any) -> Results:
    fairness = measure_fairness(LABELS, SCORES > 0.5, RNG.random(2_000) < 0.5, column="group", name="a")
    model = {"name": "loan", "version": 3, "preset": "default", "rounds": 450, "train_rows": 10, "data_digests": ["ab"]}
    values: dict[str, Any] = {
        "model": model,
        "evaluation": evaluate_scores(LABELS, SCORES),
        "importance": (("loan_to_income", 0.6), ("loan_intent=MEDICAL", 0.4)),
        "notes": (),
        "fairness": (fairness,),
    }
    return Results(**(values | changes))


class Tags(HTMLParser):
    """Collects elements, and everything that would fetch or execute."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.bad: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        if tag not in {"meta", "line", "rect", "circle", "polyline"}:
            self.open.append(tag)
        self.bad += [name for name, _ in attrs if name in {"src", "href", "style", "srcset"} or name.startswith("on")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


ALLOWED = {
    "html",
    "head",
    "meta",
    "title",
    "style",
    "body",
    "h1",
    "h2",
    "p",
    "div",
    "span",
    "b",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "code",
    "figure",
    "figcaption",
    "svg",
    "line",
    "rect",
    "text",
    "polyline",
    "circle",
}


def parsed(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert tags.names <= ALLOWED
    assert tags.bad == []
    return tags


def test_the_page_is_whole_fetches_nothing_and_runs_nothing() -> None:
    page = render_report(results(), Attested([("measurement", "00ff")], simulated=False))
    parsed(page)
    assert "default-src 'none'" in page
    assert page.count("<svg") == 4
    assert "Fairness by group" in page
    assert "00ff" in page


def test_a_simulated_platform_says_so_at_the_top() -> None:
    page = render_report(results(), Attested([], simulated=True))
    assert page.index("Simulated platform") < page.index("<h2>")


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=30) | st.sampled_from(["</style><script>", '"><img src=x onerror=1>', "&lt;", "</td>"]))
def test_no_text_gets_out_of_its_place(text: str) -> None:
    hostile = results(model={"name": text, "note": text}, importance=((text, 1.0),), notes=(text,))
    parsed(render_report(hostile, Attested([(text, text)], simulated=True)))


def test_results_read_back_equal() -> None:
    original = results()
    assert Results.parse(json.dumps(original.to_json()).encode()) == original


GOOD = results().to_json()


@pytest.mark.parametrize("key", list(GOOD))
def test_refuses_results_with_a_part_missing(key: str) -> None:
    rest = {name: value for name, value in GOOD.items() if name != key}
    with pytest.raises(FormatError) as refused:
        Results.parse(json.dumps(rest).encode())
    assert refused.value.code == "loan.results"


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("evaluation", {}),
        ("evaluation", {**GOOD["evaluation"], "rows": "many"}),
        ("evaluation", {**GOOD["evaluation"], "roc": [[0, 1]]}),
        ("evaluation", {**GOOD["evaluation"], "report": {}}),
        ("evaluation", {**GOOD["evaluation"], "rows": 1e999}),
        ("importance", [["a"]]),
        ("importance", 7),
        ("fairness", [{}]),
        ("model", "name"),
        ("notes", None),
    ],
)
def test_refuses_altered_results(part: str, value: Any) -> None:
    with pytest.raises(FormatError):
        Results.parse(json.dumps({**GOOD, part: value}).encode())


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=100))
def test_any_bytes_give_the_documented_error(raw: bytes) -> None:
    with pytest.raises(FormatError):
        Results.parse(raw)


def test_the_card_has_its_sections_and_escapes_markdown() -> None:
    card = render_model_card(results(model={"name": "a|b\n# x", "version": 1}, notes=("<b>note</b>",)))
    headings = [line for line in card.splitlines() if line.startswith("#")]
    assert headings[0] == "# Model card: a\\|b\\# x, version 1"
    assert headings[1:] == [
        "## Model",
        "## Intended use",
        "## Training data",
        "## Evaluation",
        "## What it looks at most",
        "## Fairness by group",
        "## Limits",
    ]
    assert "\\<b\\>note" in card
    assert "contradicts amount and income" in card


def test_the_card_names_training_parameters_in_words() -> None:
    card = render_model_card(results(model={"name": "loan", "parameters": {"max_depth": 6, "seed": 0}}))
    assert "- Parameters: max\\_depth = 6, seed = 0" in card.splitlines()


def test_long_names_fit_beside_their_bars() -> None:
    names = ["person_home_ownership=MORTGAGE", "loan_intent=DEBTCONSOLIDATION", "x" * 60]
    drawing = plots.bars("Importance", [(name, 0.5) for name in names])
    ends = [float(x) for x in re.findall(r'<text x="([0-9.]+)" y="[0-9]+" text-anchor="end">', drawing)]
    assert len(ends) == len(names)
    for end, name in zip(ends, names, strict=True):
        assert end >= WIDEST_LETTER_PX * len(name)
    found = re.search(r'viewBox="0 0 ([0-9]+) ', drawing)
    assert found
    assert float(found[1]) > max(ends)
