"""Pushes dashboards to a running Grafana through its API."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from grafana_client.api import GrafanaApi
from grafana_client.client import GrafanaException
from niquests.exceptions import RequestException

from heatshield.cli.errors import CliError

__all__ = ["push_all"]

TIMEOUT_S: Final = 10.0


def push_all(
    url: str, token: str, dashboards: Iterable[Mapping[str, Any]], folder_uid: str | None = None
) -> Iterator[tuple[str, str]]:
    """Push each dashboard, replacing one with the same uid; yield its title and path in Grafana.

    Raises:
        CliError: if Grafana does not answer, or refuses.
    """
    try:
        grafana = GrafanaApi.from_url(url, credential=token, timeout=TIMEOUT_S)
        for dashboard in dashboards:
            answer = grafana.dashboard.update_dashboard(
                {
                    "dashboard": {**dashboard, "id": None},
                    "overwrite": True,
                    "message": "Pushed by heatshield",
                    **({"folderUid": folder_uid} if folder_uid else {}),
                }
            )
            yield str(dashboard["title"]), str(answer["url"])
    except GrafanaException as error:
        raise CliError(f"Grafana at {url} refuses: {error.message}") from error
    except RequestException as error:
        raise CliError(f"no Grafana answers at {url} ({error})") from error
