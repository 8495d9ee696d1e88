"""Logs: the console says byte for byte what it said without heatshield; each record goes out once.

Every program runs twice, unchanged: bare, and as ``heatshield run`` starts it.
"""

import re

import pytest

from heatshield import autostart

CHANGING = re.compile(
    rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:[+-]\d\d:?\d\d|Z)?"  # times
    rb'|"(?:timestamp|seconds|id)": [\d.]+|"repr": "[^"]*"'  # loguru's JSON
    rb"|0x[0-9a-f]{6,}|(?<=\()\d+(?=\))"  # addresses, processes and threads
)

STDLIB = """
import logging
log = logging.getLogger("shop")
"""
SAYING = """
log.debug("too low")
log.info("bought %s", 7, extra={"user": "mine", "n": 1})
log.warning("dear")
def failing():
    try:
        {}["stickers"]
    except KeyError as error:
        try:
            raise ValueError("no stickers") from error
        except ValueError:
            log.exception("broke", stack_info=True)
failing()
"""
PLACED = "%(levelname)s %(name)s %(threadName)s %(filename)s:%(lineno)d %(funcName)s: %(message)s"

BASIC = STDLIB + f"logging.basicConfig(level=logging.INFO, format={PLACED!r})\n" + SAYING
CONFIGURED = (
    STDLIB
    + """
import json, logging.config
class Json(logging.Formatter):
    def format(self, record):
        return json.dumps({k: str(v) for k, v in vars(record).items() if k not in
            ("created", "msecs", "relativeCreated", "thread", "process", "exc_info")})
class Drop(logging.Filter):
    def filter(self, record):
        record.msg = str(record.msg).replace("secret", "***")
        return "dropped" not in record.msg
logging.config.dictConfig({
    "version": 1, "disable_existing_loggers": False,
    "formatters": {"json": {"()": Json}}, "filters": {"drop": {"()": Drop}},
    "handlers": {
        "out": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout",
                "formatter": "json", "filters": ["drop"]},
        "errors": {"class": "logging.StreamHandler", "level": "ERROR"},
    },
    "loggers": {"quiet": {"propagate": False},
                "alone": {"handlers": ["errors"], "propagate": False}},
    "root": {"handlers": ["out", "errors"], "level": "INFO"},
})
"""
    + SAYING
    + """
logging.getLogger("quiet").addHandler(logging.NullHandler())
log.warning("dropped by a filter")
log.warning("the secret")
logging.getLogger("quiet").error("to nobody")
logging.getLogger("alone").warning("below its handler")
logging.getLogger("alone").error("by its handler")
"""
)
BROKEN = STDLIB + "def shop():\n    log.warning('%d stickers', 'many')\nshop()\n"
QUEUED = (
    STDLIB
    + """
import logging.handlers, queue, threading
waiting = queue.Queue()
logging.basicConfig(level=logging.INFO, handlers=[logging.handlers.QueueHandler(waiting)])
shown = logging.StreamHandler()
listener = logging.handlers.QueueListener(waiting, shown)
listener.start()
log.info("over a %s", "queue")
listener.stop()
central = logging.getLogger("central")
central.propagate = False
central.addHandler(shown)
def relay():
    central.handle(waiting.get())
log.info("by a thread")
thread = threading.Thread(target=relay)
thread.start()
thread.join()
"""
)
FORWARDED = (
    STDLIB
    + """
central = logging.getLogger("central")
central.propagate = False
central.addHandler(logging.StreamHandler())
class Forward(logging.Handler):
    def emit(self, record):
        logging.getLogger("forward").debug("forwarding")
        central.handle(record)
        if record.name == "shop":
            logging.getLogger("complaint").warning("central is slow")
logging.basicConfig(level=logging.INFO, handlers=[Forward()])
log.info("bought one")
"""
)

STRUCTLOG = "import logging, structlog\n"
EVENTS = """
slog = structlog.get_logger().bind(bound=1)
slog.debug("too low")
slog.info("bought", n=7, password="x", method="GET", user="mine")
try:
    1 / 0
except ZeroDivisionError:
    slog.exception("broke")
slog.warning("stack", stack_info=True)
"""
RENDERED = """
from structlog import processors
def hide(logger, method, event):
    if event.get("event") == "dropped":
        raise structlog.DropEvent
    return {k: v for k, v in event.items() if k != "password"}
structlog.configure(processors=[
    hide, processors.add_log_level, processors.StackInfoRenderer(), processors.format_exc_info,
    processors.CallsiteParameterAdder(), hide,
    lambda logger, method, event: {**event, "process": 0, "thread": 0},
    processors.JSONRenderer()])
"""
INTO_STDLIB = (
    f"logging.basicConfig(level=logging.INFO, format={PLACED!r})\n"
    """
structlog.configure(
    processors=[structlog.stdlib.filter_by_level, structlog.stdlib.PositionalArgumentsFormatter(),
                structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()],
    logger_factory=structlog.stdlib.LoggerFactory(), wrapper_class=structlog.stdlib.BoundLogger)
"""
)
BY_FORMATTER = """
handler = logging.StreamHandler()
handler.setFormatter(structlog.stdlib.ProcessorFormatter(
    foreign_pre_chain=[structlog.stdlib.add_logger_name],
    processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer()]))
logging.basicConfig(level=logging.INFO, handlers=[handler])
structlog.configure(
    processors=[structlog.stdlib.filter_by_level, structlog.stdlib.add_logger_name,
                structlog.processors.StackInfoRenderer(), structlog.processors.format_exc_info,
                structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
    logger_factory=structlog.stdlib.LoggerFactory(), wrapper_class=structlog.stdlib.BoundLogger)
"""
FOREIGN = 'logging.getLogger("other").warning("foreign %s", 1)\n'
AWAITED = """
import asyncio
async def shop():
    log = structlog.get_logger()
    await log.ainfo("awaited", n=1)
    await log.adebug("too low, but shown")
asyncio.run(shop())
"""

LOGURU = "import logging, sys\nfrom loguru import logger\n"
LINES = """
logger.trace("far too low")
logger.info("bought {}", 7)
logger.bind(n=1, password={"a": [1]}).success("bound")
with logger.contextualize(order="o-1"):
    logger.warning("dear: {price}", price=3)
logger.opt(colors=True, lazy=True).info("<red>{}</red>", lambda: "lazy")
logger.opt(raw=True).info("raw\\n")
@logger.catch
def failing():
    1 / 0
failing()
def deeper():
    logger.opt(depth=1).info("by its caller")
deeper()
"""
LOGURU_BODIES = [
    "bought 7",
    "bound",
    "dear: 3",
    "lazy",
    "raw",
    "An error has been caught",
    "by its caller",
]
SERIALIZED = """
logger.remove()
logger.add(sys.stdout, serialize=True, level="INFO")
logger.add(sys.stderr, format="{level} {name}:{function}:{line} {message} {extra}",
           filter=lambda record: "dear" not in record["message"], level="ERROR")
"""
ENQUEUED = 'logger.remove()\nlogger.add(sys.stderr, enqueue=True, format="{line} {message}")\n'
FILTERED = """
logger.configure(handlers=[{"sink": sys.stdout, "format": "{message}",
                            "filter": lambda record: "dear" in record["message"]}],
                 patcher=lambda record: record["extra"].pop("password", None))
"""
INTERCEPT = """
import inspect
class InterceptHandler(logging.Handler):
    def emit(self, record):
        try:
            level = logger.level(record.levelname).name
        except ValueError:
            level = record.levelno
        frame, depth = inspect.currentframe(), 0
        while frame and (depth == 0 or frame.f_code.co_filename == logging.__file__):
            frame = frame.f_back
            depth += 1
        logger.opt(depth=depth, exception=record.exc_info).log(level, record.getMessage())
logging.basicConfig(handlers=[InterceptHandler()], level=0, force=True)
logger.remove()
logger.add(sys.stderr, format="{level} {name}:{function}:{line} {message}",
           filter=lambda record: "quiet" not in record["message"])
log = logging.getLogger("shop")
def shop():
    log.info("bought %s", 7, extra={"n": 1})
    log.info("quiet")
    log.info("with {braces}")
    logger.info("its own")
shop()
"""
INTERCEPT_OF_OLD = """
class InterceptHandler(logging.Handler):
    def emit(self, record):
        logger.opt(depth=6, exception=record.exc_info).log(record.levelname, record.getMessage())
logging.basicConfig(handlers=[InterceptHandler()], level=0)
def shop():
    logging.getLogger("shop").warning("bought %s", 7)
shop()
"""
PROPAGATE = f"""
class PropagateHandler(logging.Handler):
    def emit(self, record):
        logging.getLogger(record.name).handle(record)
logging.basicConfig(level=logging.INFO, format={PLACED!r})
logger.remove()
logger.add(PropagateHandler(), format="{{message}}", enqueue=ENQUEUE)
def shop():
    logger.bind(n=1).info("bought {{}}", 7)
    logger.complete()
    logging.getLogger("other").info("its own")
shop()
"""
THROUGH_A_QUEUE = (
    INTERCEPT.replace("logging.basicConfig(handlers=[InterceptHandler()]", "ignored = dict(a=[1]")
    + """
import logging.handlers, queue
waiting = queue.Queue()
listener = logging.handlers.QueueListener(waiting, InterceptHandler())
logging.basicConfig(handlers=[logging.handlers.QueueHandler(waiting)], level=logging.INFO)
listener.start()
log.info("queued")
listener.stop()
"""
)
STRUCTLOG_TO_LOGURU = (
    "import structlog\n"
    + INTERCEPT
    + """
structlog.configure(
    processors=[structlog.processors.JSONRenderer()],
    logger_factory=structlog.stdlib.LoggerFactory(), wrapper_class=structlog.stdlib.BoundLogger)
structlog.get_logger("shop").info("structured", n=1)
structlog.get_logger("shop").info("quiet", n=1)
"""
)

REDACTING = RENDERED + EVENTS + "slog.info('dropped')\n"
PROPAGATED = ["bought 7", "its own"]
FOREIGN_TOO = ["bought", "broke", "stack", "foreign 1"]
BROKE = ["bought 7", "dear", "broke"]
STRUCTURED = ["bought", "broke", "stack"]
CASES = {
    "logging: python's output of last resort": (STDLIB + SAYING, ["dear", "broke"]),
    "logging: basicConfig": (BASIC, BROKE),
    "logging: dictConfig, JSON, filters": (CONFIGURED, [*BROKE, "the ***", "by its handler"]),
    "logging: a wrong format string": (BROKEN, ["%d stickers"]),
    "logging: queues": (QUEUED, ["over a queue", "by a thread"]),
    "logging: a handler that forwards": (FORWARDED, ["bought one", "central is slow"]),
    "structlog: as it comes": (STRUCTLOG + EVENTS, STRUCTURED),
    "structlog: JSON, redacting": (STRUCTLOG + REDACTING, STRUCTURED),
    "structlog: into logging": (STRUCTLOG + INTO_STDLIB + EVENTS + FOREIGN, FOREIGN_TOO),
    "structlog: by a formatter": (STRUCTLOG + BY_FORMATTER + EVENTS + FOREIGN, FOREIGN_TOO),
    "structlog: awaited": (STRUCTLOG + RENDERED + AWAITED, ["awaited"]),
    "loguru: as it comes": (LOGURU + LINES, LOGURU_BODIES),
    "loguru: serialized": (LOGURU + SERIALIZED + LINES, LOGURU_BODIES),
    "loguru: enqueued": (LOGURU + ENQUEUED + LINES, LOGURU_BODIES),
    "loguru: filtered": (LOGURU + FILTERED + LINES, ["dear: 3"]),
    "loguru: without sinks": (LOGURU + "logger.remove()\n" + LINES, []),
    "loguru: from logging": (LOGURU + INTERCEPT, ["bought 7", "with {braces}", "its own"]),
    "loguru: from logging, as of old": (LOGURU + INTERCEPT_OF_OLD, ["bought 7"]),
    "loguru: into logging": (LOGURU + PROPAGATE.replace("ENQUEUE", "False"), PROPAGATED),
    "loguru: into logging by a thread": (
        LOGURU + PROPAGATE.replace("ENQUEUE", "True"), PROPAGATED
    ),
    "loguru: from a queue of logging": (LOGURU + THROUGH_A_QUEUE, ["its own", "queued"]),
    "structlog into logging into loguru": (
        LOGURU + STRUCTLOG_TO_LOGURU, ["bought 7", "with {braces}", "its own", "structured"]
    ),
}  # fmt: skip


def steady(output):
    """Without what changes from run to run."""
    return CHANGING.sub(b"*", output.encode())


@pytest.mark.parametrize("name", CASES)
def test_the_console_is_the_same_and_each_record_goes_out_once(run_python, collector, name):
    code, expected = CASES[name]
    settings = {"HEATSHIELD_SERVICE": "shop", "PYTHONHASHSEED": "0"}
    bare = run_python(code, **settings)
    instrumented = run_python(code, **autostart.environment(settings))
    assert steady(instrumented.stdout) == steady(bare.stdout)
    assert steady(instrumented.stderr) == steady(bare.stderr)
    assert instrumented.returncode == bare.returncode == 0
    assert not expected or bare.stdout + bare.stderr
    records = sorted(collector.logs, key=lambda record: record.time_unix_nano)
    bodies = [record.body.string_value for record in records]
    assert [body[: len(text)] for body, text in zip(bodies, expected, strict=False)] == expected
    assert len(bodies) == len(expected), bodies
