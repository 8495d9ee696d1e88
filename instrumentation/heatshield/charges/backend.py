"""Names the backend of a client's span: one Redis, one database."""

from collections.abc import Mapping

__all__ = ["backend_of"]


def backend_of(attributes: Mapping[str, object]) -> str:
    """``redis cart:6379``, as far as the span says it; empty where it is of no backend.

    The collector names the backends of spans in the same way.
    """
    system = attributes.get("db.system.name") or attributes.get("db.system")
    if not isinstance(system, str):
        return ""
    host = attributes.get("server.address") or attributes.get("net.peer.name")
    port = attributes.get("server.port") or attributes.get("net.peer.port")
    if not host:
        return f"{system} "
    return f"{system} {host}:{port}" if port else f"{system} {host}"
