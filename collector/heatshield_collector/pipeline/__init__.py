"""From accepted payloads to durable rows: gather many, decode them jointly, commit, then answer.

::

    offer() ──→ gather ──→ decode ──→ charge ──→ commit ──→ acks
         bounded in bytes  all of it at once   one transaction
                           (detection does not wait for the disk)
"""

from heatshield_collector.pipeline.charge_reports import ReportPipeline
from heatshield_collector.pipeline.group import Charges
from heatshield_collector.pipeline.threads import Pipeline

__all__ = ["Charges", "Pipeline", "ReportPipeline"]
