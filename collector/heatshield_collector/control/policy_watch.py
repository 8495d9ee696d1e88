"""Watches the policy file and has what it says be in force.

The file is looked at by its content, four times a second, on a thread of its own: a disk that hangs
must not hold up a round of control. A new content counts once two looks in a row have found it, so
a file that an editor is half-way through is not taken for a policy, and one that can't be used
changes nothing: the last good version stays in force, and it is said so everywhere.
"""

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from heatshield.clock import Clock, Instant
from heatshield_alerts.policy import NO_POLICY, Policy, PolicyError, load_text
from heatshield_alerts.policy.load import MAX_FILE_BYTES
from heatshield_collector.control.outlets import Writes
from heatshield_collector.ports import PolicyView

__all__ = ["LOOK_S", "POLICY_KIND", "PolicyWatch"]

_log = logging.getLogger(__name__)

LOOK_S: Final = 0.25
"""Seconds between looks; a change is in force after two of them."""

POLICY_KIND: Final = "policy"
"""The kind under which the text in force is kept for the next start."""

_KEY: Final = "text"


class Follows(Protocol):
    """Goes by a policy."""

    def follow_policy(
        self, policy: Policy, by: str, now: Instant, before: Policy | None = None
    ) -> None:
        """From now on; what the audit knows as in force is ``before``."""
        ...


class PolicyWatch:
    """The policy file of one collector.

    Args:
        path: of the file; ``None``: there is none, and nothing is watched.
        follows: told of each policy.
        journal: keeps the text that is in force.
        clock: stamps what is read; the thread waits on it.

    Attributes:
        failures: versions of the file that could not be used.
        errors: what is wrong with the file as it is; empty: it is in force.
    """

    def __init__(self, path: Path | None, follows: Follows, journal: Writes, clock: Clock) -> None:
        self._path = path
        self._follows = follows
        self._journal = journal
        self._clock = clock
        self._policy = NO_POLICY
        self._applied: bytes | str = b""  # a text instead of bytes: it can't be read, and why
        self._refused: bytes | str | None = None
        self._found: bytes | str | None = None
        self._since: Instant | None = None
        self._applied_at: Instant | None = None
        self.failures = 0
        self.errors: tuple[str, ...] = ()
        self._ended = threading.Event()
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heatshield-policy", daemon=True)

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._policy

    def begin(self, kept: Mapping[str, str], now: Instant) -> None:
        """Read the file for the first time; what has changed since an earlier process is recorded.

        Args:
            kept: the text that was in force then, by :data:`POLICY_KIND`.
            now: the moment.

        Raises:
            PolicyError: if the file can't be used. There is no earlier version to go on with.
        """
        before = _known(kept.get(_KEY))
        if self._path is None:
            if before != NO_POLICY:
                self._follows.follow_policy(NO_POLICY, "human:settings", now, before)
            if kept:
                self._journal.keep(POLICY_KIND, {_KEY: None})
            return
        content = self._read()
        if isinstance(content, str):
            raise PolicyError([content])
        self._apply(content, load_text(content, str(self._path)), now, before)

    def start(self) -> None:
        """Start watching, if there is a file."""
        if self._path is not None:
            self._thread.start()

    def stop(self) -> None:
        """End the thread. A disk that hangs is not waited for."""
        self._ended.set()
        self._woken.set()

    def wake(self) -> None:
        """Look at the file now, and take it as it is: a person says that it is whole."""
        self._woken.set()

    def view(self) -> PolicyView:
        """What is in force."""
        at = self._applied_at
        return PolicyView(
            file="" if self._path is None else str(self._path),
            version=self._policy.version,
            applied_at_ns=None if at is None else at.epoch_ns,
            errors=self.errors,
            policy=self._policy.to_json(),
        )

    def notes(self, now: Instant) -> list[str]:
        """What limits protection at this moment, one sentence each."""
        if not self.errors or self._since is None:
            return []
        more = f" (and {len(self.errors) - 1} more)" if len(self.errors) > 1 else ""
        since_s = now.monotonic_s - self._since.monotonic_s
        stays = f"policy version {self._policy.version} stays in force"
        return [f"{stays}, as the file can't be used for {since_s:.0f} s: {self.errors[0]}{more}"]

    def look(self, now: Instant, *, is_whole: bool = False) -> None:
        """Look at the file once.

        Args:
            now: the moment.
            is_whole: take what is found, even if the look before found something else.
        """
        content = self._read()
        if content == self._applied:
            self._found, self._refused, self.errors = None, None, ()
            return
        if content == self._refused:
            return
        if not is_whole and content != self._found:
            self._found = content
            return
        self._found = None
        if isinstance(content, str):
            self._refuse(content, (content,), now)
            return
        try:
            policy = load_text(content, str(self._path))
        except PolicyError as error:
            self._refuse(content, error.errors, now)
        else:
            self._apply(content, policy, now)

    def _apply(
        self, content: bytes, policy: Policy, now: Instant, before: Policy | None = None
    ) -> None:
        self._follows.follow_policy(policy, f"human:file {self._path}", now, before)
        self._policy, self._applied, self._applied_at = policy, content, now
        self._refused, self.errors = None, ()
        self._journal.keep(POLICY_KIND, {_KEY: content.decode()})
        _log.info("policy %s of %s is in force", policy.version, self._path)

    def _refuse(self, content: bytes | str, errors: tuple[str, ...], now: Instant) -> None:
        self.failures += 1
        if not self.errors:
            self._since = now
        self._refused, self.errors = content, errors
        text = "; ".join(errors)
        _log.error("policy %s stays in force, as the file can't be used: %s",
                   self._policy.version, text)  # fmt: skip

    def _read(self) -> bytes | str:
        """What the file holds, or why it can't be read."""
        path = self._path or Path()
        try:
            with path.open("rb") as file:
                return file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            return f"{path}: {error.strerror or error}"

    def _run(self) -> None:
        while True:
            is_whole = self._clock.wait(self._woken, LOOK_S)
            self._woken.clear()
            if self._ended.is_set():
                return
            try:
                self.look(self._clock.now(), is_whole=is_whole)
            except Exception:  # noqa: BLE001 - the next version must be seen all the same
                self.failures += 1
                _log.exception("the policy file could not be looked at")


def _known(text: str | None) -> Policy:
    """The policy that an earlier process had; none, where its text means nothing by now."""
    try:
        return NO_POLICY if text is None else load_text(text)
    except PolicyError:
        return NO_POLICY
