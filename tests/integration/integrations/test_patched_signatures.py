"""What a service may pass to a library's function by name, it may pass to our patch of it."""

import importlib
import inspect

import pytest

from heatshield.integrations.catalogue import CATALOGUE
from heatshield.integrations.patches import Patches

MORE = (
    "aiohttp.web", "celery.app.trace", "celery.worker.consumer.consumer", "celery.worker.worker",
    "django.contrib.auth", "grpc.aio", "redis.asyncio", "sqlalchemy.ext.asyncio",
    "starlette.routing", "thriftpy2.contrib.aio.client", "thriftpy2.contrib.aio.processor",
    "thriftpy2.rpc", "werkzeug.serving",
)  # fmt: skip

SETTINGS = {"user_scope": True, "deadlines": True, "local_breakers": True}


@pytest.fixture
def patched(service, monkeypatch):
    """(owner, name, what was there, our patch) of all integrations."""
    for module in (*(name for one in CATALOGUE for name in one.modules), *MORE):
        try:
            importlib.import_module(module)
        except ImportError:
            continue
    made, wrap = [], Patches.wrap

    def recorded(patches, owner, name, wrapper):
        original = vars(owner).get(name)
        wrap(patches, owner, name, wrapper)
        if original is not None:
            made.append((owner, name, original, vars(owner)[name]))

    monkeypatch.setattr(Patches, "wrap", recorded)
    service(**SETTINGS)
    return made


def signature_of(function):
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None  # C functions, some of which do not tell


def misfit(owner, original, ours):
    """Why a call of the original with all its arguments by name does not fit our patch."""
    expected = signature_of(original)
    if not callable(original) or expected is None:
        return None
    parameters = list(expected.parameters.values())
    by_place = parameters[:1] if isinstance(owner, type) else []
    by_place += [one for one in parameters if one.kind is one.POSITIONAL_ONLY]
    by_name = [
        one.name
        for one in parameters
        if one.kind in {one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY} and one not in by_place
    ]
    try:
        inspect.signature(ours, follow_wrapped=False).bind(
            *(one.name for one in by_place), **dict.fromkeys(by_name)
        )
    except TypeError as error:
        return str(error)
    return None


def test_a_patch_takes_by_name_what_the_original_does(patched):
    assert len(patched) > 100
    misfits = {
        f"{getattr(owner, '__name__', owner)}.{name}": why
        for owner, name, original, ours in patched
        if (why := misfit(owner, original, ours)) is not None
    }
    assert misfits == {}
