"""Recorded spans: files of several formats, or the store, read as one stream ordered by time."""

from heatshield_collector.recordings.problems import Problem, RecordingError
from heatshield_collector.recordings.read import little_garbage, read_recordings
from heatshield_collector.recordings.sorted_spans import SortedSpans

__all__ = ["Problem", "RecordingError", "SortedSpans", "little_garbage", "read_recordings"]
