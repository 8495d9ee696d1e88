"""Payloads -> Arrow tables with the schemas of ``model.py``; many payloads at a time."""

from heatshield_collector.decode.bounds import MAX_MEMBERS, most_members
from heatshield_collector.decode.errors import DecodeError
from heatshield_collector.decode.logs import decode_logs
from heatshield_collector.decode.metrics import decode_metrics
from heatshield_collector.decode.records import Decoded
from heatshield_collector.decode.traces import decode_detected, decode_traces
from heatshield_collector.decode.zipkin import decode_zipkin

__all__ = [
    "MAX_MEMBERS",
    "DecodeError",
    "Decoded",
    "decode_detected",
    "decode_logs",
    "decode_metrics",
    "decode_traces",
    "decode_zipkin",
    "most_members",
]
