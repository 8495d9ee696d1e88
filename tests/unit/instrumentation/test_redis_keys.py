"""Keys become patterns: of low cardinality, and without whose they are."""

import pytest

from heatshield.sanitize.redis_keys import ID, MAX_PATTERNS, Patterns, key_of, pattern_of


@pytest.mark.parametrize(
    ("key", "pattern"),
    [
        ("user:u-0000042:stickers", "user:{id}:stickers"),
        ("user:17", "user:{id}"),
        ("v2:cart:9f86d081884c7d65", "v2:cart:{id}"),
        ("owned_stickers", "owned_stickers"),
        ("session/3fa85f64-5717-4562-b3fc-2c963f66afa6", "session/{id}"),
        ("a@b.example:inbox", "{id}:inbox"),
        ("{user:9}:stickers", "{user:{id}}:stickers"),
        ("naïve:x", "{id}:x"),
        ("x" * 40, "{id}"),
        ("CANARYkey", "{id}"),
        ("session:QkzTRaBc", "session:{id}"),
        ("CART:17", "CART:{id}"),
        ("CANARY", "{id}"),
        ("shoppingCart:lastSeen", "shoppingCart:lastSeen"),
        ("", ""),
    ],
)
def test_ids_are_left_out_of_a_key(key, pattern):
    assert pattern_of(key) == pattern


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (("SADD", "s", 1), "s"),
        (("GET", b"\xff"), "\xff"),
        (("EVALSHA", "sha", 1, "k", "argument"), "k"),
        (("EVAL", "return 1", 0, "argument"), None),
        (("EVAL", "return 1", "x"), None),
        (("XREAD", "COUNT", 2, "STREAMS", "events", "$"), "events"),
        (("XREAD", "COUNT", 2), None),
        (("OBJECT", "ENCODING", "k"), "k"),
        (("PING",), None),
        (("GET",), None),
    ],
)
def test_the_key_is_found_where_its_command_has_it(words, key):
    assert key_of(words[0], words) == key


def test_a_process_knows_a_bounded_number_of_patterns():
    patterns = Patterns()
    for n in range(MAX_PATTERNS + 10):
        name = "".join(chr(97 + int(digit)) for digit in str(n))
        found = patterns.of(f"name_{name}:x")
    assert found == ID
    assert patterns.of("name_a:x") == "name_a:x"


@pytest.mark.parametrize(
    ("key", "ids", "pattern"),
    [
        ("user:ann:stickers", ("ann", ""), "user:{id}:stickers"),
        ("user:1:item:12", ("1", "1"), "user:{id}:item:{id}"),
        ("users:s:x", ("s", ""), "users:{id}:x"),
        ("of:team:ann:x", ("team:ann", ""), "of:{id}:x"),
    ],
)
def test_a_known_user_is_an_id_even_where_the_name_is_a_word(key, ids, pattern):
    assert pattern_of(key, ids) == pattern
