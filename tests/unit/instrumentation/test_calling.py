"""When a call to another service ends, where no real library does what is asked."""

import io

from heatshield.integrations.clients.http_call import Call, Calls, letting_go


class Response(io.IOBase):
    """Closed by Python itself when it is collected, like upstream urllib3's."""

    def close(self):
        super().close()


Response.close = letting_go(lambda _: 7)(Response.close)


class Slots:
    """Takes no attributes."""

    __slots__ = ()


def begun(service):
    shop = service()
    services = shop.runtime.integrations._services
    calls = Calls("urllib3", services)
    call = calls.begin("GET", "http://shop/", "shop", None)
    call.answered(200, {})
    return shop, calls, call


def test_what_python_closes_as_it_collects_is_ended_by_the_next_call(service):
    shop, calls, call = begun(service)
    response = Response()
    call.follow(response)
    del call, response
    assert shop.spans == []
    calls.begin("GET", "http://shop/", "shop", None).end(1)
    left, _ = shop.spans
    assert "http.response.body.size" not in left.attributes


def test_what_is_closed_before_ends_then(service):
    shop, _, call = begun(service)
    response = Response()
    call.follow(response)
    response.close()
    (span,) = shop.spans
    assert span.attributes["http.response.body.size"] == 7


def test_a_response_that_takes_no_attributes_ends_its_call(service):
    shop, _, call = begun(service)
    call.follow(Slots())
    assert len(shop.spans) == 1


def test_a_call_ends_once(service):
    shop, _, call = begun(service)
    call.end(1)
    call.end(2)
    assert isinstance(call, Call)
    (span,) = shop.spans
    assert span.attributes["http.response.body.size"] == 1
