"""Elements of Redis commands, from their words and replies."""

import pytest

from heatshield.integrations.databases.redis_elements import elements_read, elements_written


@pytest.mark.parametrize(
    ("words", "written"),
    [
        (["SADD", "k", *range(20_000)], 20_000),
        (["sadd", "k", "a"], 1),
        ([b"RPUSH", "k", 1, 2], 2),
        (["HSET", "k", "a", 1, "b", 2], 2),
        (["MSET", "a", 1, "b", 2, "c", 3], 3),
        (["ZADD", "k", 1, "a", 2, "b"], 2),
        (["ZADD", "k", "NX", "CH", 1, "a"], 1),
        (["DEL", "a", "b", "c"], 3),
        (["SET", "k", "v", "EX", 5], 1),
        (["SMEMBERS", "k"], 0),
        (["EVAL", "return 1", 0], 0),
        (["SADD"], 0),
        ([], 0),
    ],
)
def test_written_elements_are_counted_from_the_command(words, written):
    assert elements_written(words) == written


@pytest.mark.parametrize(
    ("command", "reply", "read"),
    [
        ("SMEMBERS", {1, 2, 3}, 3),
        ("HGETALL", {"a": 1, "b": 2}, 2),
        ("LRANGE", [1, 2], 2),
        ("SSCAN", (7, [1, 2, 3]), 3),
        ("GET", b"value", 0),
        ("SCARD", 12, 0),
        ("CONFIG GET", {"a": 1}, 0),
        ("INFO", {"a": 1}, 0),
        ("PING", True, 0),
        ("GET", None, 0),
    ],
)
def test_read_elements_are_counted_from_the_reply(command, reply, read):
    assert elements_read(command, reply) == read
