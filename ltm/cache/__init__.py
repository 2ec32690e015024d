"""A cache of the results of expensive calls, in a memory that many share."""

from ltm.cache.entries import cache_get, cache_invalidate
from ltm.cache.policy import CacheOptions
from ltm.cache.results import CacheAnswer, InvalidateAnswer
from ltm.cache.wrapping import CachedFunction, cache_wrap, cached

__all__ = [
    "CacheAnswer",
    "CacheOptions",
    "CachedFunction",
    "InvalidateAnswer",
    "cache_get",
    "cache_invalidate",
    "cache_wrap",
    "cached",
]
