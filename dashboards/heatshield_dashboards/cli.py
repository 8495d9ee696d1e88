"""``heatshield dashboards``: generate, provision or push the Grafana dashboards."""

from pathlib import Path
from typing import Annotated, Final

import typer

from heatshield.cli.errors import CliError
from heatshield.cli.plugins import MARKUP
from heatshield_dashboards.places import Places

__all__ = ["app"]

DEFAULTS: Final = Places()

app = typer.Typer(
    rich_markup_mode=MARKUP,
    no_args_is_help=True,
    help="Grafana dashboards over the collector's metrics.",
)


@app.command()
def provision(
    directory: Annotated[Path, typer.Argument(help="Folder to write to; created if missing.")],
    prometheus: Annotated[
        str, typer.Option(help="Address of the Prometheus that scrapes the collector.")
    ] = DEFAULTS.prometheus,
    collector: Annotated[
        str, typer.Option(help="Address of the collector, for Prometheus.")
    ] = DEFAULTS.collector,
    public_url: Annotated[
        str, typer.Option(help="Address of the collector as people reach it; default: the same.")
    ] = DEFAULTS.public_url,
) -> None:
    """Write dashboards, provisioning and a scrape configuration to DIRECTORY.

    Start Grafana with GF_PATHS_PROVISIONING=DIRECTORY/provisioning, and Prometheus with
    --config.file=DIRECTORY/prometheus/heatshield.yaml --enable-feature=exemplar-storage.
    """
    dashboards = (directory / "dashboards").resolve()
    _write(directory, Places(str(dashboards), prometheus, collector, public_url))


@app.command()
def generate(
    directory: Annotated[Path, typer.Argument(help="Folder to write to.")] = Path(
        "dashboards/grafana"
    ),
) -> None:
    """Write the same files for the default addresses, as the repository keeps them."""
    _write(directory, DEFAULTS)


@app.command()
def push(
    url: Annotated[str, typer.Option(help="Address of Grafana.")],
    token: Annotated[
        str, typer.Option(envvar="GRAFANA_TOKEN", help="Token of a service account (editor).")
    ],
    folder: Annotated[str | None, typer.Option(help="Uid of the target folder.")] = None,
) -> None:
    """Push the dashboards to a running Grafana, replacing earlier versions."""
    from heatshield_dashboards.provision import DASHBOARDS, as_object
    from heatshield_dashboards.push import push_all

    built = [as_object(build()) for build in DASHBOARDS.values()]
    for title, path in push_all(url, token, built, folder):
        typer.echo(f"{title}: {url.rstrip('/')}{path}")


def _write(directory: Path, places: Places) -> None:
    from heatshield_dashboards.provision import write

    try:
        written = write(directory, places)
    except OSError as error:
        raise CliError(f"{error.filename or directory}: {error.strerror}") from error
    for path in written:
        typer.echo(str(path))
