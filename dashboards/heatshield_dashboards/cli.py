"""``heatshield dashboards``: generate, provision or push them."""

from pathlib import Path
from typing import Annotated, Final

import typer

from heatshield.cli.errors import CliError
from heatshield.cli.plugins import MARKUP
from heatshield_dashboards.provision import DASHBOARDS, Places, as_object, write
from heatshield_dashboards.push import push_all

__all__ = ["app"]

USUAL: Final = Places()

app = typer.Typer(
    rich_markup_mode=MARKUP,
    no_args_is_help=True,
    help="Grafana dashboards over the collector's metrics.",
)


@app.command()
def provision(
    directory: Annotated[Path, typer.Argument(help="Folder to write to; it is made if need be.")],
    prometheus: Annotated[
        str, typer.Option(help="Address of the Prometheus that scrapes the collector.")
    ] = USUAL.prometheus,
    collector: Annotated[str, typer.Option(help="Address of the collector.")] = USUAL.collector,
) -> None:
    """Write dashboards, provisioning and a scrape configuration to DIRECTORY.

    Start Grafana with GF_PATHS_PROVISIONING=DIRECTORY/provisioning, and Prometheus with
    --config.file=DIRECTORY/prometheus/heatshield.yaml --enable-feature=exemplar-storage.
    """
    dashboards = (directory / "dashboards").resolve()
    _write(directory, Places(str(dashboards), prometheus, collector))


@app.command()
def generate(
    directory: Annotated[Path, typer.Argument(help="Folder to write to.")] = Path(
        "dashboards/grafana"
    ),
) -> None:
    """Write the same for the usual places: what the repository keeps in dashboards/grafana."""
    _write(directory, USUAL)


@app.command()
def push(
    url: Annotated[str, typer.Option(help="Address of Grafana.")],
    token: Annotated[
        str, typer.Option(envvar="GRAFANA_TOKEN", help="Token of a service account (editor).")
    ],
    folder: Annotated[str | None, typer.Option(help="Uid of the folder to put them in.")] = None,
) -> None:
    """Push the dashboards into a running Grafana, over those of an earlier time."""
    built = [as_object(build()) for build in DASHBOARDS.values()]
    for title, path in push_all(url, token, built, folder):
        typer.echo(f"{title}: {url.rstrip('/')}{path}")


def _write(directory: Path, places: Places) -> None:
    try:
        written = write(directory, places)
    except OSError as error:
        raise CliError(f"{error.filename or directory}: {error.strerror}") from error
    for path in written:
        typer.echo(str(path))
