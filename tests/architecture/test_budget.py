"""Sizes stay small enough to read: a module is one idea, a function fits on a screen."""

import ast
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src" / "strongroom"
MAX_MODULE_LINES = 450
MAX_FUNCTION_LINES = 70


def test_modules_and_functions_stay_within_the_budget() -> None:
    modules = sorted(SOURCE.rglob("*.py"))
    assert modules
    too_long = []
    for path in modules:
        text = path.read_text()
        name = path.relative_to(SOURCE)
        if text.count("\n") > MAX_MODULE_LINES:
            too_long.append(f"{name}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                # The body: a command's signature is the table of its options, not logic.
                lines = (node.end_lineno or node.lineno) - node.body[0].lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    too_long.append(f"{name}:{node.lineno} {node.name}: {lines} lines")
    assert not too_long, "\n".join(too_long)


def test_no_module_is_called_after_what_it_is_not() -> None:
    names = {path.stem for path in SOURCE.rglob("*.py")}
    assert not names & {"utils", "util", "common", "helpers", "helper", "manager", "base", "misc"}
