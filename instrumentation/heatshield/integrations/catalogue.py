"""All integrations: which there are, and the import of which library brings each in.

An integration ``flask`` is the file ``heatshield/integrations/flask.py`` with the functions
``install(equipment)`` and ``remove()``. It is imported when one of its ``modules`` is imported, not
before: fifty services that each use five of these libraries must not pay for the others, and a
process that uses none of them (``python -c``) pays for none.
"""

from typing import Final, NamedTuple

__all__ = ["CATALOGUE", "Integration"]


class Integration(NamedTuple):
    """One integration.

    Attributes:
        name: of its file, and what ``disabled`` calls it.
        modules: importing one of these installs it.
        distribution: whose version the doctor shows; ``None`` for what is Python's own.
    """

    name: str
    modules: tuple[str, ...]
    distribution: str | None


CATALOGUE: Final = (
    Integration("exec", ("os",), None),
    Integration("multiprocessing", ("multiprocessing.util",), None),
    Integration("billiard", ("billiard.pool",), "billiard"),
    Integration("gunicorn", ("gunicorn.workers.base",), "gunicorn"),
    Integration("uvicorn", ("uvicorn.server",), "uvicorn"),
    Integration("starlette", ("starlette.applications",), "starlette"),
    Integration("fastapi", ("fastapi.applications",), "fastapi"),
    Integration("flask", ("flask.app",), "flask"),
    Integration("django", ("django.core.handlers.wsgi", "django.core.handlers.asgi"), "django"),
    Integration("aiohttp_server", ("aiohttp.web",), "aiohttp"),
    Integration("downstream_httpx", ("httpx",), "httpx"),
    Integration("downstream_requests", ("requests",), "requests"),
    Integration("downstream_grpc", ("grpc",), "grpcio"),
    Integration("downstream_redis", ("redis",), "redis"),
    Integration("grpc", ("grpc",), "grpcio"),
    Integration("thrift", ("thriftpy2.thrift",), "thriftpy2"),
    Integration("httpx", ("httpx",), "httpx"),
    Integration("requests", ("requests",), "requests"),
    Integration("urllib3", ("urllib3.connectionpool",), "urllib3"),
    Integration("aiohttp_client", ("aiohttp.client",), "aiohttp"),
    Integration("redis", ("redis",), "redis"),
    Integration("sqlalchemy", ("sqlalchemy",), "SQLAlchemy"),
    Integration("psycopg", ("psycopg",), "psycopg"),
    Integration("asyncpg", ("asyncpg",), "asyncpg"),
    Integration("sqlite3", ("sqlite3",), None),
    Integration("pymongo", ("pymongo",), "pymongo"),
    Integration("celery", ("celery.app.base",), "celery"),
    Integration("confluent_kafka", ("confluent_kafka.cimpl",), "confluent-kafka"),
    Integration("aiokafka", ("aiokafka",), "aiokafka"),
    Integration("zipkin", ("py_zipkin.zipkin",), "py-zipkin"),
    Integration("logging", ("logging",), None),
    Integration("structlog", ("structlog",), "structlog"),
    Integration("loguru", ("loguru",), "loguru"),
    Integration("gunicorn_access", ("gunicorn.glogging",), "gunicorn"),
    Integration("uvicorn_access", ("uvicorn.logging",), "uvicorn"),
)
"""What processes begin and end in, servers, then clients, data stores, queues, logs. What stands
before a call comes before the client that makes a span of it, as what is installed later is around
what was installed earlier."""
