"""OTLP log payloads -> one Arrow table with the schema of ``model.LOGS``."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from heatshield_collector.decode.attributes import any_value_texts, flatten
from heatshield_collector.decode.records import NO_ID, Decoded, int64, read, valid_ids, within
from heatshield_collector.decode.traces import user_of
from heatshield_collector.model import LOGS

__all__ = ["decode_logs"]

HIGHEST_SEVERITY = 24
"""OTLP's SEVERITY_NUMBER_FATAL4."""


def decode_logs(payloads: Sequence[bytes], received_ns: int) -> Decoded:
    """Decode log payloads jointly. A record without a request is still a record: left out are only
    damaged ones.

    Args:
        payloads: serialized ``ExportLogsServiceRequest`` messages.
        received_ns: when they were received, nanoseconds since the Unix epoch.

    Raises:
        DecodeError: when any payload is not such a message.
    """
    records = read(ExportLogsServiceRequest, payloads, "log_records")
    logs = records.fields
    attributes = flatten(logs.field("attributes"))
    happened, observed = (
        int64(logs.field(name)) for name in ("time_unix_nano", "observed_time_unix_nano")
    )
    columns = {
        "trace_id": _id(logs.field("trace_id"), 16),
        "span_id": _id(logs.field("span_id"), 8),
        "service": records.service,
        "instance": records.instance,
        "time_ns": pa.array(np.where(happened == 0, observed, happened)),
        "severity": within(logs.field("severity_number"), HIGHEST_SEVERITY),
        "severity_text": logs.field("severity_text"),
        "body": any_value_texts(logs.field("body"))[0],
        "event_name": logs.field("event_name"),
        "user": user_of(attributes),
        "attribute_keys": attributes.keys_column(),
        "attribute_values": attributes.values_column(),
        "scope": records.scope,
        "flags": logs.field("flags").cast(pa.int64()),
        "dropped": logs.field("dropped_attributes_count").cast(pa.int64()),
        "resource_id": records.resource_id,
        "received_ns": pa.array(np.full(len(logs), received_ns)),
    }
    table = pa.table([columns[name] for name in LOGS.names], schema=LOGS)
    return Decoded(table, records.resources, records.left_out.tolist(), records.mended)


def _id(ids: pa.Array, size: int) -> pa.Array:
    return pc.if_else(pa.array(valid_ids(ids, size)), ids, NO_ID)
