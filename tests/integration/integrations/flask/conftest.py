"""The shop on Flask, on a real server."""

import pytest
from flask_shop import shop_app
from shop_behaviour import Shop


@pytest.fixture
def open_shop(serve_wsgi):
    def start():
        shop = Shop()
        shop.url = serve_wsgi(shop_app(shop.ran))
        return shop

    return start
