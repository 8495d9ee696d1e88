"""What several fault tests need."""

import pytest
from breaker_fleet.stage import Stage


@pytest.fixture(scope="module")
def whole_stage(tmp_path_factory):
    """A collector and twenty clients; they take seconds to start, so all tests of a file share."""
    stage = Stage(tmp_path_factory.mktemp("fleet"))
    yield stage
    stage.close()


@pytest.fixture
def stage(whole_stage):
    """The same, calm."""
    whole_stage.calm()
    return whole_stage
