"""The shop of :mod:`shop_behaviour` in Django, sync and async, and its settings.

Django is configured once in a process, so every test of it shares this.
"""

import types

import django
from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.db import connection
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import include, path, re_path
from django.views import View
from opentelemetry.trace import get_tracer

import heatshield

RAN = []
"""Users whose purchases and names reached a view."""


class Rejection:
    """A downstream's."""

    status_code = 503
    headers = {"heatshield-breaker": "b-99", "retry-after": "7"}  # noqa: RUF012


class User:
    """Whom Django's own authentication would find."""

    is_authenticated = True

    def __init__(self, pk):
        self.pk = pk

    async def found(self):
        return self


class Sessions:
    """Middleware that names the user; works in both worlds, as Django's own do."""

    async_capable = sync_capable = True

    def __init__(self, get_response):
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request):
        if "x-session" in request.headers:
            heatshield.user(request.headers["x-session"])
        if "x-login" in request.headers:
            request.user = User(request.headers["x-login"])
            request.auser = request.user.found
        if "x-refuse" in request.headers:
            raise heatshield.BreakerOpen("b-97", 3)
        return self.get_response(request)


class Purchases(View):
    def post(self, request, user):  # noqa: ARG002  # as Django calls it
        RAN.append(user)
        return JsonResponse({"bought": user})


def echo(request):
    return HttpResponse(request.body)


def chunks():
    for _ in range(3):
        with get_tracer("test").start_as_current_span("chunk"):
            yield b"x" * 1_000


def stream(request):
    return StreamingHttpResponse(chunks())


def fails(request):
    return HttpResponse(str(1 / 0))


def named(request, user):
    heatshield.user(user)
    RAN.append(user)
    return JsonResponse({})


def guarded(request, user):
    with heatshield.guard("refresh"):
        return JsonResponse({})


def handed_on(request):
    heatshield.raise_for_rejection(Rejection())


def own_words(request):
    return HttpResponse("come back later", status=503, headers={"heatshield-breaker": "b-98"})


def healthz(request):
    return JsonResponse({})


def whoami(request):
    return JsonResponse({"view": request.resolver_match.func.__name__})


class AsyncPurchases(View):
    async def post(self, request, user):  # noqa: ARG002  # as Django calls it
        RAN.append(user)
        return JsonResponse({"bought": user})


async def async_chunks():
    for _ in range(3):
        with get_tracer("test").start_as_current_span("chunk"):
            yield b"x" * 1_000


async def async_echo(request):
    return HttpResponse(request.body)


async def async_stream(request):
    return StreamingHttpResponse(async_chunks())


async def async_fails(request):
    return HttpResponse(str(1 / 0))


async def async_named(request, user):
    heatshield.user(user)
    RAN.append(user)
    return JsonResponse({})


async def async_guarded(request, user):
    async with heatshield.guard("refresh"):
        return JsonResponse({})


async def async_handed_on(request):
    heatshield.raise_for_rejection(Rejection())


async def async_own_words(request):
    return own_words(request)


async def async_healthz(request):
    return JsonResponse({})


def writes(request):
    with connection.cursor() as cursor:
        cursor.execute("insert into purchases values (1)")
    raise heatshield.BreakerOpen("b-1")


class Callable:
    """A view that is an object, like Django's syndication feeds."""

    def __call__(self, request, year):  # noqa: ARG002  # as Django calls it
        RAN.append(year)
        return JsonResponse({})


def urlconf(name, buy, **views):
    module = types.ModuleType(name)
    module.urlpatterns = [
        path("purchases/<user>", buy),
        path("echo", views["echo"]),
        path("stream", views["stream"]),
        path("fails", views["fails"]),
        path("named/<user>", views["named"]),
        path("guarded/<user>", views["guarded"]),
        path("handed-on", views["handed_on"]),
        path("own-words", views["own_words"]),
        path("healthz", views["healthz"]),
        path("whoami", whoami),
        path("writes", writes),
        path("api/v1/", include([path("users/<int:pk>/", healthz)])),
        re_path(r"^articles/(?P<year>[0-9]{4})/$", Callable()),
        path("", healthz),
    ]
    return module


SYNC = urlconf(
    "sync_shop", Purchases.as_view(), echo=echo, stream=stream, fails=fails, named=named,
    guarded=guarded, handed_on=handed_on, own_words=own_words, healthz=healthz,
)  # fmt: skip
ASYNC = urlconf(
    "async_shop", AsyncPurchases.as_view(), echo=async_echo, stream=async_stream,
    fails=async_fails, named=async_named, guarded=async_guarded, handed_on=async_handed_on,
    own_words=async_own_words, healthz=async_healthz,
)  # fmt: skip

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=SYNC,
        MIDDLEWARE=["django_shop.Sessions"],
        LOGGING_CONFIG=None,
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": "file:django_shop?mode=memory&cache=shared",  # of all threads
            }
        },
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
        ],
        SECRET_KEY="only for tests",  # noqa: S106
    )
    django.setup()
