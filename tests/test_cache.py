from hypothesis import given
from hypothesis import strategies as st

from gateway.search.cache import Cache


def test_what_was_used_last_is_kept() -> None:
    cache: Cache[str, int] = Cache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)

    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (1, None, 3)
    assert (cache.hits, cache.misses) == (3, 1)


@given(st.lists(st.integers(0, 9)), st.integers(0, 5))
def test_the_cache_never_grows_over_its_capacity(keys: list[int], capacity: int) -> None:
    cache: Cache[int, int] = Cache(capacity)
    for key in keys:
        cache.put(key, key)
        assert len(cache) <= capacity
        assert cache.get(key) == (key if capacity else None)
