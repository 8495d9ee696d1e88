"""Envoy's rate limit service, asked by a real gRPC client as Envoy asks it.

The client's messages are described here again, from Envoy's protocol files and with fields that the
collector does not describe, so that a wrong number there would be seen.
"""

from contextlib import contextmanager

import grpc
import httpx
import pytest
from control_platform import Platform
from google.protobuf import duration_pb2, text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from listeners import grpc_listener, loop_thread
from recording_committer import RecordingCommitter

from collector_process import collector_process
from heatshield.cli.local_token import local_token
from heatshield.identity.identify import Identity
from heatshield.settings import ServiceSettings
from heatshield_collector.authenticator import AdminTokenAuthenticator
from heatshield_collector.gateways import Checks, rate_limit_handler
from heatshield_collector.intake.grpc import GrpcCaller
from heatshield_collector.ports import TripRequest
from heatshield_stickershop.processes import free_port

CALL = "POST /users/{id}/stickers"
METHOD = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"

COMMON = """
name: "envoy/extensions/common/ratelimit/v3/ratelimit.proto"
package: "envoy.extensions.common.ratelimit.v3" syntax: "proto3"
message_type { name: "RateLimitDescriptor"
  nested_type { name: "Entry"
    field { name: "key" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
    field { name: "value" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL } }
  nested_type { name: "RateLimitOverride"
    field { name: "requests_per_unit" number: 1 type: TYPE_UINT32 label: LABEL_OPTIONAL }
    field { name: "unit" number: 2 type: TYPE_INT32 label: LABEL_OPTIONAL } }
  field { name: "entries" number: 1 type: TYPE_MESSAGE label: LABEL_REPEATED
    type_name: ".envoy.extensions.common.ratelimit.v3.RateLimitDescriptor.Entry" }
  field { name: "limit" number: 2 type: TYPE_MESSAGE label: LABEL_OPTIONAL
    type_name: ".envoy.extensions.common.ratelimit.v3.RateLimitDescriptor.RateLimitOverride" } }
"""

SERVICE = """
name: "envoy/service/ratelimit/v3/rls.proto"
package: "envoy.service.ratelimit.v3" syntax: "proto3"
dependency: "envoy/extensions/common/ratelimit/v3/ratelimit.proto"
dependency: "google/protobuf/duration.proto"
message_type { name: "RateLimitRequest"
  field { name: "domain" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "descriptors" number: 2 type: TYPE_MESSAGE label: LABEL_REPEATED
    type_name: ".envoy.extensions.common.ratelimit.v3.RateLimitDescriptor" }
  field { name: "hits_addend" number: 3 type: TYPE_UINT32 label: LABEL_OPTIONAL } }
message_type { name: "HeaderValue"
  field { name: "key" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "value" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL } }
message_type { name: "RateLimitResponse"
  enum_type { name: "Code"
    value { name: "UNKNOWN" number: 0 }
    value { name: "OK" number: 1 }
    value { name: "OVER_LIMIT" number: 2 } }
  nested_type { name: "DescriptorStatus"
    field { name: "code" number: 1 type: TYPE_ENUM label: LABEL_OPTIONAL
      type_name: ".envoy.service.ratelimit.v3.RateLimitResponse.Code" }
    field { name: "limit_remaining" number: 3 type: TYPE_UINT32 label: LABEL_OPTIONAL }
    field { name: "duration_until_reset" number: 4 type: TYPE_MESSAGE label: LABEL_OPTIONAL
      type_name: ".google.protobuf.Duration" } }
  field { name: "overall_code" number: 1 type: TYPE_ENUM label: LABEL_OPTIONAL
    type_name: ".envoy.service.ratelimit.v3.RateLimitResponse.Code" }
  field { name: "statuses" number: 2 type: TYPE_MESSAGE label: LABEL_REPEATED
    type_name: ".envoy.service.ratelimit.v3.RateLimitResponse.DescriptorStatus" }
  field { name: "response_headers_to_add" number: 3 type: TYPE_MESSAGE label: LABEL_REPEATED
    type_name: ".envoy.service.ratelimit.v3.HeaderValue" }
  field { name: "request_headers_to_add" number: 4 type: TYPE_MESSAGE label: LABEL_REPEATED
    type_name: ".envoy.service.ratelimit.v3.HeaderValue" }
  field { name: "raw_body" number: 5 type: TYPE_BYTES label: LABEL_OPTIONAL } }
"""

POOL = DescriptorPool()
POOL.AddSerializedFile(duration_pb2.DESCRIPTOR.serialized_pb)
for _described in (COMMON, SERVICE):
    _file = text_format.Parse(_described, FileDescriptorProto())
    POOL.AddSerializedFile(_file.SerializeToString())


def message(name):
    return GetMessageClass(POOL.FindMessageTypeByName(f"envoy.service.ratelimit.v3.{name}"))


RateLimitRequest, RateLimitResponse = message("RateLimitRequest"), message("RateLimitResponse")
OK, OVER_LIMIT = 1, 2


def request(*descriptors, domain="shop"):
    asked = RateLimitRequest(domain=domain, hits_addend=1)
    for entries in descriptors:
        descriptor = asked.descriptors.add()
        descriptor.limit.requests_per_unit = 7
        for key, value in entries.items():
            descriptor.entries.add(key=key, value=value)
    return asked


@pytest.fixture
def platform():
    platform = Platform()
    platform.entry = platform.breakers.trip(TripRequest("hot", "shop", CALL, issuer="human:ana"))
    return platform


@contextmanager
def client_of(platform, authenticator=None):
    """Asks the collector's listener; takes a request and returns the answer."""
    authenticator = authenticator or AdminTokenAuthenticator()
    checks = Checks(platform.breakers, platform.clock)
    identity = Identity(ServiceSettings(user_header="x-user-id"))
    handler = rate_limit_handler(checks, identity, authenticator, GrpcCaller)
    with (
        loop_thread() as thread,
        grpc_listener(thread, RecordingCommitter(), 65_536, authenticator, [handler]) as address,
        grpc.insecure_channel(address) as channel,
    ):
        yield asking(channel)


def asking(channel):
    """Asks over a channel."""
    call = channel.unary_unary(
        METHOD,
        request_serializer=lambda one: one.SerializeToString(),
        response_deserializer=RateLimitResponse.FromString,
    )
    return lambda asked, **more: call(asked, timeout=20, **more)


@pytest.fixture
def ask(platform):
    with client_of(platform) as client:
        yield client


@pytest.mark.parametrize(
    "said",
    [
        {"user": "hot", "service": "shop", "call": CALL},
        {"user": "hot", "call": CALL},  # the domain is the service
        {"user": "hot", "generic_key": CALL},
        {"user": "hot", "destination_cluster": "shop", "generic_key": CALL},
        {"user": "hot", "method": "POST", "path": "/users/7/stickers?x=1"},
    ],
)
def test_the_cut_user_is_over_the_limit_and_another_is_not(ask, platform, said):
    answer = ask(request(said))
    assert answer.overall_code == OVER_LIMIT
    (status,) = answer.statuses
    assert status.code == OVER_LIMIT
    assert 1 <= status.duration_until_reset.seconds <= 10
    headers = {one.key: one.value for one in answer.response_headers_to_add}
    assert headers["heatshield-breaker"] == platform.entry.id
    assert 1 <= int(headers["retry-after"]) <= 10
    assert platform.entry.id.encode() in answer.raw_body

    allowed = ask(request(said | {"user": "other"}))
    assert allowed.overall_code == OK
    assert [one.code for one in allowed.statuses] == [OK]
    assert not allowed.response_headers_to_add


def test_one_descriptor_that_is_over_makes_the_request_so(ask):
    cut = {"user": "hot", "call": CALL}
    answer = ask(request({"remote_address": "10.0.0.1"}, cut, {"user": "hot", "call": "GET /"}))
    assert answer.overall_code == OVER_LIMIT
    assert [one.code for one in answer.statuses] == [OK, OVER_LIMIT, OK]
    assert ask(request({"remote_address": "10.0.0.1"})).overall_code == OK
    many = ask(request(*[{"user": "other", "call": CALL}] * 50))
    assert (many.overall_code, len(many.statuses)) == (OK, 50)


@pytest.mark.parametrize("said", [{}, {"": ""}, {"user": ""}, {"user": "hot"}, {"call": CALL}])
def test_what_says_too_little_is_let_through(ask, said):
    assert ask(request(said)).overall_code == OK
    assert ask(request(said, domain="")).overall_code == OK


def test_another_service_s_call_is_not_cut(ask):
    assert ask(request({"user": "hot", "call": CALL}, domain="other")).overall_code == OK


def test_what_is_no_request_is_said_to_be_none(platform):
    with client_of(platform) as ask, pytest.raises(grpc.RpcError) as refused:
        ask(type("Broken", (), {"SerializeToString": lambda _: b"\xff\xff"})())
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_token_is_asked_for(platform):
    """Envoy lets a request go on whose question fails, unless it is told not to."""
    authenticator = AdminTokenAuthenticator(token="of callers")  # noqa: S106
    asked = request({"user": "hot", "call": CALL})
    with client_of(platform, authenticator) as ask:
        with pytest.raises(grpc.RpcError) as refused:
            ask(asked)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        bearing = (("authorization", "Bearer of callers"),)
        assert ask(asked, metadata=bearing).overall_code == OVER_LIMIT


def test_the_collector_answers_on_the_port_of_otlp(tmp_path):
    address = f"127.0.0.1:{free_port()}"
    flags = ("--mode", "protect", "--grpc", address)
    with (
        collector_process(tmp_path / "data", *flags) as collector,
        grpc.insecure_channel(address) as channel,
    ):
        ask, asked = asking(channel), request({"user": "hot", "call": CALL})
        assert ask(asked).overall_code == OK
        admin = {"Authorization": f"Bearer {local_token(collector.url)}"}
        cut = {"user": "hot", "service": "shop", "call": CALL}
        httpx.post(f"{collector.url}/v1/breakers", json=cut, headers=admin).raise_for_status()
        assert ask(asked).overall_code == OVER_LIMIT
