"""The composition root: makes every part of the collector and hands each what it needs."""

# long: each part is made here, and nowhere else

import asyncio
import contextlib
import logging
import os
import secrets
import threading
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from heatshield import names
from heatshield.clock import Clock, SystemClock
from heatshield.identity.identify import Identity
from heatshield.settings import ServiceSettings
from heatshield_alerts.control_state import KeptControl
from heatshield_alerts.notify import Notifier, read_targets
from heatshield_alerts.restart import kept_entries
from heatshield_alerts.rules import SHIPPED_RULES, RuleGroup, check_series, load_file
from heatshield_collector.api.app import create_app
from heatshield_collector.api.stream import encode_event
from heatshield_collector.authenticator import AdminTokenAuthenticator, check_reach
from heatshield_collector.browser_guard import BrowserGuard
from heatshield_collector.control import Journal, LoadAnswers, Outlets
from heatshield_collector.control.baseline_keeper import BaselineKeeper
from heatshield_collector.control.loop import ALERT_KIND
from heatshield_collector.control.platform_mode import (
    FIRST_MODE,
    ModeKeeper,
    StartMode,
    mode_at_start,
)
from heatshield_collector.control.policy_watch import POLICY_KIND, PolicyWatch
from heatshield_collector.control.rule_series import ELSEWHERE, RULE_SERIES
from heatshield_collector.control.state_file import StateFile, StateFileError
from heatshield_collector.control.state_keeper import StateKeeper
from heatshield_collector.core import Core
from heatshield_collector.daemon_thread import in_daemon_thread
from heatshield_collector.events import EventHub
from heatshield_collector.gateways import Checks, Shortcut, rate_limit_handler
from heatshield_collector.gateways import routes as check_routes
from heatshield_collector.intake.charge_reports import charge_routes
from heatshield_collector.intake.formats import FORMATS
from heatshield_collector.intake.grpc import GrpcCaller, GrpcListener
from heatshield_collector.intake.http import routes
from heatshield_collector.local_token import leave_token
from heatshield_collector.pipeline import Pipeline, ReportPipeline
from heatshield_collector.ports import Ports
from heatshield_collector.settings import CollectorSettings
from heatshield_collector.signer import Signer, read_key
from heatshield_collector.store import DuckDBStore, Limits, StoreError

__all__ = ["Collector"]

_log = logging.getLogger(__name__)

RETENTION_INTERVAL_S: Final = 60.0
"""Seconds between looks at what may be let go."""

REMEMBERED_SPANS: Final = 500_000
"""Stored spans that a new process takes as charged: six seconds of a busy platform, for senders
that the last process had no time to answer. Reading them takes 0.1 s."""

FAILED_ROUNDS: Final = 4
"""Rounds in a row, a second of them, after which a collector that evaluates nothing says so."""

_SENT_KIND: Final = "sent"
"""The kind under which it is kept what targets were told."""

_MIB: Final = 2**20
_GIB: Final = 2**30


class Collector:
    """A whole collector in one process.

    Args:
        settings: what it was told.
        clock: where the time comes from.

    Attributes:
        events: what people listen to.
        grpc_port: where it listens for gRPC; ``None``: nowhere.
        mode: the mode that it began in, once it has been started, and why.
        awaited: what :meth:`stop` still waits for, once the queue is on the disk.
    """

    def __init__(self, settings: CollectorSettings, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self.events = EventHub(encode_event, clock=self._clock)
        self.grpc_port: int | None = None
        self.mode = StartMode(FIRST_MODE, "")
        self.awaited = ""
        self._app: ASGIApp | None = None
        self._ended = threading.Event()

    def asgi(self) -> ASGIApp:
        """The ASGI application; it answers once :meth:`start` has returned."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            if self._app is None:
                raise RuntimeError("the collector has not been started")
            await self._app(scope, receive, send)

        return serve

    async def start(self) -> None:
        """Open the store, start the threads, listen for gRPC. When it raises, nothing runs.

        Raises:
            StoreError: when the store can't be opened.
            RuleError: when a rule file is wrong.
            PolicyError: when the policy file is.
            NotifyConfigError: when a notification's target is wrong.
            SettingsError: when other machines could reach it without a token.
            OSError: when the address of gRPC can't be listened on, or no token can be left.
        """
        settings = self._settings
        check_reach(settings)
        rules = [
            group
            for name in (str(SHIPPED_RULES), *settings.rules)
            for group in load_file(Path(name))
        ]
        for warning in check_series(rules, RULE_SERIES, ELSEWHERE):
            _log.warning("%s", warning)
        self._store = await asyncio.to_thread(_open_store, settings)
        async with AsyncExitStack() as undo:
            undo.callback(self._store.close)
            self._compose(rules)
            newest = await asyncio.to_thread(self._store.newest_spans, REMEMBERED_SPANS)
            self._core.analysis.charged_before(newest)
            undo.callback(self._notifier.stop)
            self._notifier.start()
            self._notifier.restore(
                self._store.kept(_SENT_KIND), self._alerts_before, self._core.control.held_back
            )
            await self._listen_grpc()
            undo.pop_all()
        self._state_keeper.start()
        if self._state_keeper.is_written:
            with contextlib.suppress(StoreError):  # it is done at the next start
                self._store.forget_held()
        for part in (
            self._journal,
            self._pipeline,
            self._reports,
            self._core.control,
            self._checks,
            self._policy,
        ):
            part.start()
        self._baselines.start()
        self._retention.start()

    def _compose(self, rules: Sequence[RuleGroup]) -> None:
        settings, clock = self._settings, self._clock
        self._journal = Journal(self._store, clock)
        self._notifier = Notifier(
            read_targets(settings.notify, os.environ),
            public_url=settings.public_url,
            clock=clock,
            keep=lambda changed: self._journal.keep(_SENT_KIND, changed),
        )
        self.mode = mode_at_start(settings.mode, self._store.kept_mode())
        kept, control = self._kept_state()
        self._state_keeper = StateKeeper(self._state_file, clock)
        self._core = core = Core(
            replace(settings, mode=self.mode.mode.value),
            rules,
            epoch=self._epoch(kept),
            outlets=Outlets(self._journal, self.events, self._notifier, self._state_keeper.keep),
            clock=clock,
            seed=secrets.randbits(64),
            keep_mode=ModeKeeper(self._store, settings.mode),
        )
        now = clock.now()
        core.breakers.restore(control, now)
        path = Path(settings.policy) if settings.policy else None
        self._policy = PolicyWatch(path, core.breakers, self._journal, clock)
        self._policy.begin(self._store.kept(POLICY_KIND), now)
        self._baselines = BaselineKeeper(core.detection, Path(settings.data), clock)
        core.control.known_s = self._baselines.restore()
        self._alerts_before = core.control.restore(self._store.kept(ALERT_KIND), now)
        self._pipeline = Pipeline(
            self._store, core.analysis, FORMATS, clock, settings.queue_mib * _MIB
        )
        self._reports = ReportPipeline(core.analysis, clock)
        self._retention = threading.Thread(
            target=self._expire, name="heatshield-retention", daemon=True
        )
        self._show_metrics()
        self._compose_face()

    def _compose_face(self) -> None:
        """What takes in and what answers."""
        settings = self._settings
        key = settings.signing_key
        self._signer = Signer(read_key(Path(key)), self._clock) if key else None
        limit_bytes = settings.payload_mib * _MIB
        control = self._core.control
        left = leave_token(Path(settings.data))
        authenticator = AdminTokenAuthenticator(settings.admin_token, left, token=settings.token)
        self._checks = Checks(self._core.breakers, self._clock, self._core.durations.calls_of)
        identity = Identity(
            ServiceSettings(
                user_header=settings.check_user_header, user_key=settings.check_user_key
            )
        )
        self._grpc = GrpcListener(
            self._pipeline,
            limit_bytes,
            self._core.metrics,
            authenticator,
            [rate_limit_handler(self._checks, identity, authenticator, GrpcCaller)],
        )
        checks = check_routes(self._checks, identity, authenticator)
        app = create_app(
            Ports(
                store=self._store,
                loads=LoadAnswers(
                    self._core.detection,
                    self._core.durations,
                    self._core.breakers,
                    lambda: control.findings,
                    self._clock,
                    control.outcomes.text_of,
                ),
                alerts=lambda: control.alerts,
                findings=control.open_findings,
                breakers=self._core.breakers,
                events=self.events,
                ready=self._not_ready,
                metrics=self._core.metrics.render,
                clock=self._clock,
                authenticator=authenticator,
                notes=self._notes,
                cold_start_left_s=lambda: control.cold_start_left_s(self._clock.now()),
                not_cut=control.outcomes.not_cut,
                signer=self._signer,
                policy=self._policy.view,
            ),
            [
                *checks,
                *charge_routes(self._reports, self._core.metrics, authenticator),
                *routes(self._pipeline, limit_bytes, self._core.metrics, authenticator),
            ],
        )
        quick = Shortcut(app, checks)
        self._app = quick if settings.token else BrowserGuard(quick)

    def _show_metrics(self) -> None:
        metrics = self._core.metrics
        metrics.gauge(names.COMMIT_QUEUE_BYTES, lambda: self._pipeline.queued_bytes)
        metrics.gauge(names.STORE_BYTES, self._store.used_bytes)
        metrics.gauge(names.STREAM_SUBSCRIBERS, lambda: self.events.subscribers)
        metrics.causes(names.CHARGES_DROPPED, "Charges let go.", self._core.analysis.dropped)
        metrics.counts(
            names.CHARGE_REPORTS,
            "Charge reports by what became of them.",
            self._core.analysis.reports,
            label="outcome",
        )
        metrics.causes(
            names.STREAMS_CUT_OFF,
            "Listeners of /api/events that fell behind.",
            lambda: {"behind": self.events.cut_off},
        )
        metrics.gauge(names.INSTANCES_BEHIND, self._core.breakers.behind)
        metrics.gauge(names.INSTANCES_NOT_ENFORCING, self._core.breakers.not_enforcing)
        metrics.counts(
            names.EVALUATION_FAILURES,
            "Rules and rounds that failed.",
            lambda: {"": self._core.control.failures},
            label="",
        )
        metrics.gauge(names.POLICY_IN_FORCE, lambda: float(not self._policy.errors))
        metrics.counts(
            names.POLICY_FAILURES,
            "Versions of the policy file that could not be used.",
            lambda: {"": self._policy.failures},
            label="",
        )
        metrics.counts(
            names.JOURNAL_DROPPED,
            "Findings, alerts and audit records that were not stored.",
            lambda: {"": self._journal.dropped},
            label="",
        )
        metrics.counts(
            names.NOTIFICATIONS,
            "Notifications of alerts, over all targets.",
            lambda: asdict(self._notifier.counts),
            label="outcome",
        )
        metrics.counts(
            names.STATE_WRITE_FAILURES,
            "Writes of held breakers to the disk that failed or came late.",
            lambda: {"": self._state_keeper.failures},
            label="",
        )
        metrics.series(self._core.control.samples)

    async def _listen_grpc(self) -> None:
        if self._settings.grpc != "off":
            self.grpc_port = await self._grpc.start(self._settings.grpc)

    def reload(self) -> None:
        """Read the policy file at once. Called by a signal handler: it only wakes a thread."""
        self._policy.wake()

    @property
    def policy_version(self) -> str:
        """Names the policy that is in force."""
        return self._policy.policy.version

    async def stop(self) -> None:
        """Bring what was taken in to the disk and let go of everything."""
        await self._grpc.stop()
        self.events.close()
        self._ended.set()
        await in_daemon_thread(self._stop_threads, "heatshield-stop")

    def _stop_threads(self) -> None:
        # In the order in which they feed each other.
        self._checks.stop()
        self._reports.stop()
        self._pipeline.stop()
        self._policy.stop()
        self._core.control.stop()
        self._baselines.stop()
        self._core.control.close_findings(self._clock.now())
        self._core.breakers.keep()
        self._state_keeper.stop()
        self._notifier.stop()
        self._journal.stop()
        self.awaited = "retention was still running"
        self._retention.join()
        self.awaited = "the store was still being closed"
        self._store.close()

    def _kept_state(self) -> tuple[int, KeptControl]:
        """The epoch of the last collector, 0 where that is not known, and what it held."""
        self._state_file = StateFile(Path(self._settings.data))
        try:
            kept = self._state_file.read()
        except StateFileError as error:
            kept = None
            _log.error("what breakers held is lost: %s: %s", self._state_file.path, error)
            with contextlib.suppress(OSError):
                _log.error("that file is %s now", self._state_file.set_aside())
        if kept is None:
            return 0, kept_entries(self._store.held())
        return kept.epoch, KeptControl(kept.control)

    def _epoch(self, last: int) -> int:
        """Greater than before, also where the store is new: clients never go back to an older one.

        Seconds of the wall clock are: a collector whose data was wiped would else be ignored by
        every client that knew its former epochs. Both the store and the file of breakers know the
        last one, so that a disk may lose the newest write to either.
        """
        return self._store.next_epoch(max(last + 1, self._clock.time_ns() // 10**9))

    def _not_ready(self) -> Sequence[str]:
        reasons = []
        if not self._pipeline.alive:
            reasons.append("the pipeline has ended: nothing is taken in")
        if not self._reports.alive:
            reasons.append("the thread of charge reports has ended: none is counted")
        if not self._core.control.alive:
            reasons.append("the control loop has ended")
        if not self._journal.alive:
            reasons.append("the journal has ended: nothing is audited")
        if self._core.control.failed_in_a_row >= FAILED_ROUNDS:
            reasons.append(f"evaluation failed {self._core.control.failed_in_a_row} times in a row")
        return reasons

    def _notes(self) -> Sequence[str]:
        now = self._clock.now()
        said = (self._core.control.notes(now), self._policy.notes(now), self._state_keeper.notes())
        return [note for notes in said for note in notes]

    def _expire(self) -> None:
        while not self._clock.wait(self._ended, RETENTION_INTERVAL_S):
            try:
                self._store.expire(self._clock.now())
            except StoreError:
                _log.exception("retention failed; it is tried again in a minute")


def _open_store(settings: CollectorSettings) -> DuckDBStore:
    limits = Limits(
        age_ns=round(settings.retention_hours * 3600e9),
        size_bytes=round(settings.retention_gib * _GIB),
    )
    return DuckDBStore(Path(settings.data), limits)
