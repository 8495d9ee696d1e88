"""Worlds on virtual time: services, backends and users around the collector's real decisions.

A scene (:mod:`.scenes`) fills a world (:mod:`.world`): its services queue for workers, processors
and backends, and what they do leaves as the bytes that instrumented processes would send
(:mod:`.telemetry`). The judge (:mod:`.judge`) compares what was decided with what was true: who
burnt, and whether others suffered for it, measured against the same world without that user.
"""
