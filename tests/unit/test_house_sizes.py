"""Files and functions stay of a size that a reader can hold.

A file above 400 lines or a function above 60 says why in a comment that begins ``# long:``, the
file near its head, the function within its body.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("instrumentation", "alerts", "collector", "dashboards", "examples", "benchmarks", "docs")
FILES = sorted(path for name in (*FOLDERS, "tests") for path in (ROOT / name).rglob("*.py"))
MOST_LINES = 400
MOST_FUNCTION_LINES = 60
HEAD_LINES = 40
REASON = "# long: "


def long_functions(source: str) -> list[str]:
    lines = source.splitlines()
    return [
        f"{node.name} ({node.end_lineno - node.lineno + 1} lines)"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > MOST_FUNCTION_LINES
        and not any(REASON in line for line in lines[node.lineno - 1 : node.end_lineno])
    ]


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_a_file_and_its_functions_are_short_or_say_why(path):
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()
    if not any(REASON in line for line in lines[:HEAD_LINES]):
        assert len(lines) <= MOST_LINES
    assert long_functions(source) == []


def test_a_long_function_is_noticed():
    body = "    pass\n" * MOST_FUNCTION_LINES
    assert long_functions(f"def f():\n{body}") == [f"f ({MOST_FUNCTION_LINES + 1} lines)"]
    assert long_functions(f"def f():\n    # long: a table\n{body}") == []
