"""pymongo over the real wire protocol: one span a command, its documents, its shape, no values."""

import asyncio
import json

import pymongo
import pytest
from mongo_server import MongoServer
from opentelemetry import trace
from pymongo import monitoring

from heatshield.integrations.databases import pymongo as integration
from heatshield.names import COST_ROWS, ENDUSER_ID


@pytest.fixture(scope="module")
def mongo():
    server = MongoServer()
    yield server
    server.close()


@pytest.fixture
def traced(service):
    return service()


@pytest.fixture
def shop(mongo, traced):
    """A database with 250 stickers."""
    mongo.collections.clear()
    client = pymongo.MongoClient(mongo.url)
    client.shop.stickers.insert_many([{"_id": i, "owner": "ann", "price": i} for i in range(250)])
    traced.spans.clear()
    yield client.shop
    client.close()


def rows(spans):
    return [(span.name, span.attributes.get(COST_ROWS)) for span in spans]


def test_a_command_is_a_span_with_its_shape_and_no_value(traced, shop, mongo):
    shop.stickers.find_one({"owner": "secret", "price": {"$in": [7, 8, 9]}}, sort=[("price", -1)])
    (span,) = traced.spans
    assert span.name == "find stickers"
    assert span.kind is trace.SpanKind.CLIENT
    assert span.attributes == {
        "db.system.name": "mongodb",
        "db.namespace": "shop",
        "server.address": "127.0.0.1",
        "server.port": mongo.port,
        "db.query.text": (
            "{find: stickers, filter: {owner: ?, price: {$in: [?]}}, sort: {price: ?}, limit: ?, "
            "singleBatch: ?}"
        ),
        "db.query.summary": "find stickers",
        "db.operation.name": "find",
        "db.collection.name": "stickers",
    }


def test_documents_read_are_rows_page_by_page(traced, shop):
    assert len(list(shop.stickers.find(batch_size=100))) == 250
    assert len(list(shop.stickers.aggregate([{"$match": {"price": {"$lte": 4}}}]))) == 5
    assert shop.stickers.distinct("owner") == ["ann"]
    assert shop.stickers.find_one_and_update({"_id": 1}, {"$set": {"owner": "x"}})["_id"] == 1
    raw = shop.stickers.find_raw_batches({"price": {"$lte": 9}}, batch_size=4)
    assert len(list(raw)) == 3
    assert rows(traced.spans) == [
        ("find stickers", 100), ("getMore stickers", 100), ("getMore stickers", 50),
        ("aggregate stickers", 5), ("distinct stickers", 1), ("findAndModify stickers", 1),
        ("find stickers", 4), ("getMore stickers", 4), ("getMore stickers", 2),
    ]  # fmt: skip


def test_documents_written_are_rows(traced, shop):
    stickers = shop.stickers
    stickers.insert_many([{"_id": 1_000 + i} for i in range(3)])
    stickers.insert_one({"_id": 2_000})
    stickers.update_many({"price": {"$lte": 9}}, {"$set": {"owner": "bob"}})
    stickers.delete_many({"price": {"$gt": 199}})
    stickers.bulk_write([pymongo.UpdateOne({"_id": 1}, {"$set": {"a": 1}}), pymongo.DeleteOne({})])
    unsure = stickers.with_options(write_concern=pymongo.WriteConcern(w=0))
    unsure.insert_many([{"_id": 3_000}, {"_id": 3_001}])
    assert rows(traced.spans) == [
        ("insert stickers", 3), ("insert stickers", 1), ("update stickers", 10),
        ("delete stickers", 50), ("update stickers", 1), ("delete stickers", 1),
        ("insert stickers", 2),
    ]  # fmt: skip
    assert traced.spans[0].attributes["db.operation.batch.size"] == 3
    assert traced.spans[0].attributes["db.query.text"] == (
        "{insert: stickers, ordered: ?, documents: [?]}"
    )


def test_errors_say_what_failed_without_the_value(traced, shop):
    shop.stickers.insert_one({"_id": "secret"})
    with pytest.raises(pymongo.errors.DuplicateKeyError) as raised:
        shop.stickers.insert_one({"_id": "secret"})
    assert "secret" in str(raised.value)  # the service is told as ever
    with pytest.raises(pymongo.errors.OperationFailure):
        shop.stickers.find_one({"$broken": "secret"})
    with pytest.raises(pymongo.errors.OperationFailure):
        shop.command("unheard")
    duplicate, broken, unknown = traced.spans[1:]
    assert duplicate.status.status_code is trace.StatusCode.ERROR
    assert duplicate.status.description == (
        "WriteError: E11000 duplicate key error collection: shop.stickers index: _id_ dup key: ?"
    )
    assert duplicate.attributes["db.response.status_code"] == "11000"
    assert broken.status.description == "BadValue: unknown top level operator: ?"
    assert unknown.attributes["error.type"] == "CommandNotFound"
    told = [(span.attributes, span.events, span.status.description) for span in traced.spans]
    assert "secret" not in str(told)


def test_a_lost_connection_is_an_error(traced, shop):
    server = MongoServer()
    client = pymongo.MongoClient(server.url, retryReads=False, serverSelectionTimeoutMS=200)
    client.shop.stickers.find_one()
    server.answer = None  # it falls over the next command, and the connection is closed
    server._server.handle_error = lambda *_: None
    with pytest.raises(pymongo.errors.AutoReconnect):
        client.shop.stickers.find_one()
    client.close()
    server.close()
    fine, lost = traced.spans
    assert fine.status.status_code is trace.StatusCode.UNSET
    assert lost.status.description.startswith("AutoReconnect: ")


def test_the_async_client_counts_alike_and_keeps_requests_apart(traced, shop, mongo):
    async def handler(client, user):
        import heatshield

        with trace.get_tracer("test").start_as_current_span(user):
            heatshield.user(user)
            assert len(await client.shop.stickers.find({}, batch_size=200).to_list()) == 250

    async def main():
        client = pymongo.AsyncMongoClient(mongo.url)
        await asyncio.gather(*(handler(client, f"u-{i}") for i in range(4)))
        with pytest.raises(asyncio.TimeoutError):
            async with asyncio.timeout(0.1):
                await client.shop.stickers.find_one({"sleep": 1})
        await asyncio.sleep(0.25)
        await client.shop.stickers.insert_one({"_id": "last"})
        await client.close()

    asyncio.run(main())
    handlers = {traced.span(f"u-{i}").span_id: f"u-{i}" for i in range(4)}
    pages = [span for span in traced.spans if span.parent_id in handlers]
    assert sorted(rows(pages)) == [("find stickers", 200)] * 4 + [("getMore stickers", 50)] * 4
    assert all(span.attributes[ENDUSER_ID] == handlers[span.parent_id] for span in pages)
    cancelled, last = traced.spans[-2:]
    assert cancelled.name == "find stickers"
    assert 0.05e9 < cancelled.end_time - cancelled.start_time < 0.3e9  # not until the next one
    assert rows([last]) == [("insert stickers", 1)]


def test_housekeeping_makes_no_spans_and_whole_documents_are_never_shown(traced, shop):
    cursor = shop.stickers.find(batch_size=10)
    next(cursor)
    cursor.close()  # kills the server's
    shop.stickers.insert_one({f"field{i}": {"deep": ["secret"] * 50} for i in range(200)})
    assert [span.name for span in traced.spans] == ["find stickers", "insert stickers"]
    assert len(json.dumps(traced.spans[1].attributes)) < 500


def test_clients_that_are_left_over_are_silent_after_removing(service, mongo):
    before = list(monitoring._LISTENERS.command_listeners)
    made = service()
    client = pymongo.MongoClient(mongo.url)
    integration.remove()
    client.shop.stickers.find_one()
    client.close()
    assert made.spans == []
    assert before == monitoring._LISTENERS.command_listeners


def test_opentelemetrys_own_instrumentation_is_not_doubled(traced, mongo):
    from opentelemetry.instrumentation.pymongo import PymongoInstrumentor

    PymongoInstrumentor().instrument(skip_dep_check=True)
    try:
        client = pymongo.MongoClient(mongo.url)
        client.shop.stickers.find_one()
        client.close()
    finally:
        PymongoInstrumentor().uninstrument()
    found = [span.instrumentation_scope.name for span in traced.spans]
    assert "heatshield.pymongo" not in found
    assert "opentelemetry.instrumentation.pymongo" in found
