"""``heatshield up``: a collector on an embedded store, in the foreground."""

import logging
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from heatshield import names
from heatshield.cli.errors import CliError
from heatshield.cli.local_token import link_token, unlink_token
from heatshield.cli.mode import MEANING
from heatshield.contract import PlatformMode
from heatshield.settings import SettingsError, load
from heatshield_collector.settings import CollectorSettings

if TYPE_CHECKING:
    from heatshield_collector.app import Collector

__all__ = ["settings_of", "up"]

LogLevel = Literal["debug", "info", "warning", "error"]

LOG_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"

PolicyFile = Annotated[
    str | None,
    typer.Option("--policy", metavar="FILE", help="What rules may do, and limits on calls."),
]
NotifyUrls = Annotated[
    list[str] | None,
    typer.Option(
        "--notify",
        metavar="URL|file:PATH|env:NAME",
        help="Apprise URL told of alerts. Other users of this machine see a URL given here, "
        "and the secret in it: name a file or a variable instead.",
    ),
]


def up(  # noqa: PLR0913, PLR0917  each is a flag
    data: Annotated[
        str | None, typer.Option("--data", metavar="DIR", help="Folder of the embedded store.")
    ] = None,
    http: Annotated[
        str | None, typer.Option("--http", metavar="HOST:PORT", help="OTLP/HTTP and the API.")
    ] = None,
    grpc: Annotated[
        str | None, typer.Option("--grpc", metavar="HOST:PORT|off", help="OTLP/gRPC.")
    ] = None,
    mode: Annotated[
        PlatformMode | None,
        typer.Option(
            "--mode",
            help="shadow decides but enforces nothing. By default what `heatshield mode` set last, "
            "at first shadow.",
        ),
    ] = None,
    cold_start_s: Annotated[
        float | None,
        typer.Option(
            "--cold-start-s", min=0, help="Baseline seconds before a user may be tripped."
        ),
    ] = None,
    rules: Annotated[
        list[str] | None,
        typer.Option("--rules", metavar="FILE", help="Prometheus rules beside the shipped ones."),
    ] = None,
    policy: PolicyFile = None,
    notify: NotifyUrls = None,
    retention_hours: Annotated[
        float | None, typer.Option("--retention-hours", min=0, help="Age at which data goes.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="Instead of ./heatshield.toml."),
    ] = None,
    log_level: Annotated[LogLevel, typer.Option("--log-level")] = "warning",
) -> None:
    """Start a collector on an embedded store; Ctrl-C stops it.

    Every setting is also read from `HEATSHIELD_COLLECTOR_<NAME>` and from the section [collector]
    of heatshield.toml; flags go first, then the environment, then the file.
    """
    settings = settings_of(
        config,
        data=data,
        http=http,
        grpc=grpc,
        mode=mode and mode.value,
        cold_start_s=cold_start_s,
        rules=rules or None,
        policy=policy,
        notify=notify or None,
        retention_hours=retention_hours,
    )
    _warn_of_secrets(notify or ())
    logging.basicConfig(level=log_level.upper(), format=LOG_FORMAT)
    _run(settings)


def _warn_of_secrets(notify: Iterable[str]) -> None:
    if any("://" in url for url in notify):
        typer.echo(
            "the secret in --notify is in the process list, which others on this machine see: "
            "use --notify file:PATH, --notify env:NAME or heatshield.toml",
            err=True,
        )


def settings_of(config: Path | None, **flags: object) -> CollectorSettings:
    """The collector's settings; flags that are ``None`` were not given.

    Raises:
        SettingsError: on an unknown setting or an impossible value.
    """
    settings = load(CollectorSettings, "collector", flags=flags, file=config)
    modes = [mode.value for mode in PlatformMode]
    if settings.mode and settings.mode not in modes:
        raise SettingsError(f"mode {settings.mode!r} is none; say {' or '.join(modes)}")
    return settings


def _run(settings: CollectorSettings) -> None:
    import heatshield
    from heatshield_collector.app import Collector
    from heatshield_collector.authenticator import check_reach
    from heatshield_collector.server import StartError, address_of, listen, serve

    try:
        check_reach(settings)
        listener = listen(settings.http)
        address = address_of(listener)
        _instrument(address, settings.token)
        port = int(address.rpartition(":")[2])

        def ending() -> None:
            unlink_token(Path(settings.data), port)
            # What the collector reports to itself is sent while it still takes something in.
            heatshield.shutdown()

        # Once it stops it does not reach itself, which is no news to anybody.
        logging.getLogger("heatshield").addFilter(lambda _: listener.fileno() >= 0)
        collector = Collector(settings)
        with _reloaded_by_signal(collector):
            serve(
                collector,
                listener,
                lambda: _announce(settings, address, collector),
                ending=ending,
            )
    except StartError as error:
        raise CliError(str(error)) from error
    typer.echo("heatshield collector stopped; everything acknowledged is on the disk")


@contextmanager
def _reloaded_by_signal(collector: "Collector") -> Iterator[None]:
    """Have SIGHUP read the policy file at once, where there is that signal."""
    number = getattr(signal, "SIGHUP", None)
    if number is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, lambda *_: collector.reload())
    try:
        yield
    finally:
        signal.signal(number, before)


def _instrument(address: str, token: str) -> None:
    """The collector is a service too, and reports to itself.

    What it takes in, what watches its breakers and what gateways ask is left out: each payload
    would make the next, and each request of the platform one of the collector's.
    It never refuses a user: it would lose the evidence.
    """
    import heatshield
    from heatshield_collector.gateways import RATE_LIMIT_SERVICE

    heatshield.instrument(
        service=names.COLLECTOR_SERVICE,
        endpoint=f"http://{address}",
        token=token,
        enforce=False,
        excluded_paths=(
            names.OTLP_TRACES_PATH,
            names.OTLP_LOGS_PATH,
            names.OTLP_METRICS_PATH,
            names.CHARGES_PATH,
            names.BREAKERS_PATH,
            names.CHECK_PATH,
            f"/{RATE_LIMIT_SERVICE}/",
        ),
    )


def _announce(settings: CollectorSettings, address: str, collector: "Collector") -> None:
    link_token(Path(settings.data), int(address.rpartition(":")[2]))
    typer.echo(f"heatshield collector on http://{address} (OTLP, API; documented at /docs)")
    if collector.grpc_port is not None:
        typer.echo(f"  OTLP/gRPC  {settings.grpc.rpartition(':')[0]}:{collector.grpc_port}")
    typer.echo(f"  store      {Path(settings.data).resolve()}")
    mode, why = collector.mode
    typer.echo(f"  mode       {mode.value}, {why}: {MEANING[mode]}")
    if mode is PlatformMode.SHADOW:
        typer.echo("             to enforce them: heatshield mode protect")
    if settings.policy:
        typer.echo(f"  policy     {settings.policy}, version {collector.policy_version}")
    if settings.cold_start_s:
        typer.echo(f"  cold start rules trip no breaker in the first {settings.cold_start_s:g} s")
