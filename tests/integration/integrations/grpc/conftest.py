"""A shop whose runtime the tests of gRPC look into."""

import pytest
from opentelemetry.instrumentation.grpc import (
    GrpcAioInstrumentorClient,
    GrpcAioInstrumentorServer,
    GrpcInstrumentorClient,
    GrpcInstrumentorServer,
)


@pytest.fixture
def shop(service):
    return service(user_header="X-User-Id")


@pytest.fixture
def opentelemetry(request):
    """OpenTelemetry's instrumentations, activated before or after ours, as the test says."""
    kinds = (
        GrpcInstrumentorServer, GrpcInstrumentorClient,
        GrpcAioInstrumentorServer, GrpcAioInstrumentorClient,
    )  # fmt: skip

    def activate():
        for kind in kinds:
            kind().instrument(skip_dep_check=True)

    yield activate
    for kind in reversed(kinds):
        kind().uninstrument()
