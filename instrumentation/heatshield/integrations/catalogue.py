"""All integrations: which there are, and the import of which library brings each in.

An integration ``servers.flask`` is the file ``heatshield/integrations/servers/flask.py`` with the
functions ``install(services)`` and ``remove()``. It is imported when one of its ``modules`` is
imported, not before: fifty services that each use five of these libraries must not pay for the
others, and a process that uses none of them (``python -c``) pays for none.
"""

from typing import Final, NamedTuple

__all__ = ["CATALOGUE", "Integration"]


class Integration(NamedTuple):
    """One integration.

    Attributes:
        path: of its file, dotted, within ``heatshield.integrations``.
        modules: importing one of these installs it.
        distribution: whose version the doctor shows; ``None`` for what is Python's own.
    """

    path: str
    modules: tuple[str, ...]
    distribution: str | None

    @property
    def name(self) -> str:
        """The name of its file: what ``disabled`` and the doctor call it."""
        return self.path.rpartition(".")[2]


CATALOGUE: Final = (
    Integration("processes.exec", ("os",), None),
    Integration("processes.multiprocessing", ("multiprocessing.util",), None),
    Integration("processes.threading", ("threading",), None),
    Integration("processes.concurrent_futures", ("concurrent.futures.thread",), None),
    Integration("processes.anyio_threads", ("anyio.to_thread",), "anyio"),
    Integration("processes.billiard", ("billiard.pool",), "billiard"),
    Integration("processes.gunicorn", ("gunicorn.workers.base",), "gunicorn"),
    Integration("processes.uvicorn", ("uvicorn.server",), "uvicorn"),
    Integration("servers.starlette", ("starlette.applications",), "starlette"),
    Integration("servers.fastapi", ("fastapi.applications",), "fastapi"),
    Integration("servers.flask", ("flask.app",), "flask"),
    Integration("servers.flask_login", ("flask_login",), "Flask-Login"),
    Integration(
        "servers.django", ("django.core.handlers.wsgi", "django.core.handlers.asgi"), "django"
    ),
    Integration("servers.aiohttp_server", ("aiohttp.web",), "aiohttp"),
    Integration("clients.downstream_httpx", ("httpx",), "httpx"),
    Integration("clients.downstream_requests", ("requests",), "requests"),
    Integration("rpc.downstream_grpc", ("grpc",), "grpcio"),
    Integration("databases.downstream_redis", ("redis",), "redis"),
    Integration("rpc.grpc", ("grpc",), "grpcio"),
    Integration("rpc.thrift", ("thriftpy2.thrift",), "thriftpy2"),
    Integration("clients.httpx", ("httpx",), "httpx"),
    Integration("clients.requests", ("requests",), "requests"),
    Integration("clients.urllib3", ("urllib3.connectionpool",), "urllib3"),
    Integration("clients.aiohttp_client", ("aiohttp.client",), "aiohttp"),
    Integration("databases.redis", ("redis",), "redis"),
    Integration("databases.sqlalchemy", ("sqlalchemy",), "SQLAlchemy"),
    Integration("databases.psycopg", ("psycopg",), "psycopg"),
    Integration("databases.asyncpg", ("asyncpg",), "asyncpg"),
    Integration("databases.sqlite3", ("sqlite3",), None),
    Integration("databases.pymongo", ("pymongo",), "pymongo"),
    Integration("messaging.celery", ("celery.app.base",), "celery"),
    Integration("messaging.rq", ("rq",), "rq"),
    Integration("messaging.dramatiq", ("dramatiq",), "dramatiq"),
    Integration("messaging.confluent_kafka", ("confluent_kafka.cimpl",), "confluent-kafka"),
    Integration("messaging.aiokafka", ("aiokafka",), "aiokafka"),
    Integration("tracers.zipkin", ("py_zipkin.zipkin",), "py-zipkin"),
    Integration("logs.logging", ("logging",), None),
    Integration("logs.structlog", ("structlog",), "structlog"),
    Integration("logs.loguru", ("loguru",), "loguru"),
    Integration("logs.gunicorn_access", ("gunicorn.glogging",), "gunicorn"),
    Integration("logs.uvicorn_access", ("uvicorn.logging",), "uvicorn"),
)
"""Processes, servers, clients, data stores, queues, tracers, logs. The later of two patches is
around the earlier one, so what refuses a call (``downstream_...``) comes before what makes its
span."""
