"""Run the golden scripts: against our evaluator, and against promtool where there is one.

A script is what Prometheus' own promqltest would read, cut down to one instant::

    load                       the samples, one a line
    eval EXPRESSION            followed by the expected series, in any order
    eval_ordered EXPRESSION    in this order
    eval_fail EXPRESSION       must be refused

Running them against ``promtool test rules`` proves that what they expect is what Prometheus does.
"""

import json
import math
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from heatshield_alerts.promql import EvaluationError, Evaluator, parse
from heatshield_alerts.series import InstantSamples, Labels, Sample

SCRIPTS = sorted((Path(__file__).parent / "promql").glob("*.test"))
PROMTOOL = shutil.which("promtool")


@dataclass
class Case:
    command: str
    expression: str
    line: int
    expected: list[Sample] = field(default_factory=list)


@dataclass
class Script:
    loaded: list[Sample] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)


def read_sample(text: str) -> Sample:
    series, _, value = text.strip().rpartition(" ")
    found = re.fullmatch(r"([a-zA-Z_:]*)(?:\{(.*)\})?", series)
    assert found, f"not a series: {series!r}"
    labels = dict(re.findall(r'(\w+)="([^"]*)"', found[2] or ""))
    return Sample(Labels({**labels, "__name__": found[1]}), float(value))


def read_script(path: Path) -> Script:
    script = Script()
    target = script.loaded
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith(" "):
            target.append(read_sample(line))
        elif line != "load":
            command, _, expression = line.partition(" ")
            assert command in ("eval", "eval_ordered", "eval_fail"), f"{path}:{number}: {line}"
            script.cases.append(Case(command, expression, number))
            target = script.cases[-1].expected
    return script


def cases() -> list:
    return [
        pytest.param(script.loaded, case, id=f"{path.stem}:{case.line}")
        for path in SCRIPTS
        for script in [read_script(path)]
        for case in script.cases
    ]


def written(samples: list[Sample]) -> list[str]:
    return [f"{row.labels} {row.value!r}" for row in samples]


@pytest.mark.parametrize(("loaded", "case"), cases())
def test_the_evaluator_answers_as_the_script_says(loaded: list[Sample], case: Case):
    expression, source = parse(case.expression), InstantSamples(loaded)
    if case.command == "eval_fail":
        with pytest.raises(EvaluationError):
            Evaluator().vector(expression, source, 0.0)
        return
    got = written(Evaluator().vector(expression, source, 0.0))
    expected = written(case.expected)
    if case.command == "eval":
        got, expected = sorted(got), sorted(expected)
    assert got == expected


@pytest.mark.skipif(
    PROMTOOL is None and not os.environ.get("CI"), reason="promtool is not installed"
)
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_prometheus_answers_as_the_script_says(path: Path, tmp_path: Path):
    """Each case also holds in Prometheus. A NaN is compared as ``result != result``: promtool
    never finds two NaN equal. Cases that must fail are run one by one."""
    script = read_script(path)
    good = [_prom_case(case) for case in script.cases if case.command != "eval_fail"]
    assert _promtool(tmp_path, script, good) == ""
    for case in script.cases:
        if case.command == "eval_fail":
            failure = _promtool(tmp_path, script, [_prom_case(case)])
            assert "err:" in failure, f"{path.name}:{case.line}: Prometheus accepts it: {failure}"


def _prom_case(case: Case) -> dict:
    nan = any(math.isnan(row.value) for row in case.expected)
    assert not nan or len(case.expected) == 1, "one NaN a case, so that it can be checked"
    expression = f"({case.expression}) != bool ({case.expression})" if nan else case.expression
    expected = [
        {
            "labels": str(row.labels.drop("__name__") if nan else row.labels),
            "value": 1 if nan else row.value,
        }
        for row in case.expected
    ]
    return {"expr": expression, "eval_time": "0s", "exp_samples": expected}


def _promtool(folder: Path, script: Script, prom_cases: list[dict]) -> str:
    """What promtool complains of; nothing when all cases hold."""
    series = [{"series": str(row.labels), "values": _number(row.value)} for row in script.loaded]
    test = {"tests": [{"interval": "1s", "input_series": series, "promql_expr_test": prom_cases}]}
    file = folder / "cases.yaml"
    file.write_text(json.dumps(test).replace("Infinity", ".inf"))
    ran = subprocess.run(
        [PROMTOOL or "promtool", "test", "rules", str(file)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return "" if ran.returncode == 0 else ran.stdout + ran.stderr


def _number(value: float) -> str:
    return {"inf": "Inf", "-inf": "-Inf", "nan": "NaN"}.get(repr(value), repr(value))
