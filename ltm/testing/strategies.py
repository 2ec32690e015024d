"""Hypothesis strategies for what ``ltm`` keeps: values, metadata, keys."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import strategies as st

from ltm.entry import EXPIRY_NAMES, JSONValue

AWKWARD: dict[str, Any] = {
    "a/none": None,
    "a/false": False,
    "a/int": 1,
    "a/float": 1.0,
    "a/minus-zero": -0.0,
    "a/huge": 2**80,
    "a/1e16": 1e16,
    "a/tiny": 5e-324,
    "a/empty": "",
    "a/nul": "a\0b",
    "a/surrogate": "\ud800 alone",
    "a/object": {"": {}, "__x__": [[], {"é": "日本\u2028"}]},
    "a/large": {"text": "A value that goes to a payload. " * 100, "minus": -0.0},
    "a/deep": [[[[[[1.0]]]]]],
    "z/日本": "last",
}
"""Values, by a key for each, of which some store or format has lost a part."""

_SURROGATE_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")

json_text = st.text(st.characters()).filter(lambda text: not _SURROGATE_PAIR.search(text))
"""Any text that JSON can hold: NUL and lone surrogates too, but no pair of surrogates."""

json_numbers = (
    st.integers()
    | st.integers(-(2**300), 2**300)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([0, -0.0, 1e16, 5e-324, 2**80, 1.0, 1, -1, 1.7976931348623157e308])
)

json_values: st.SearchStrategy[JSONValue] = st.recursive(
    st.none() | st.booleans() | json_numbers | json_text,
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(json_text, children, max_size=4)
    ),
    max_leaves=12,
)
"""Any JSON value."""

storable_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
"""Text without NUL and surrogates, as keys and metadata hold it."""

keys = storable_text.filter(lambda key: 1 <= len(key.encode()) <= 1024)

metadata_values: st.SearchStrategy[JSONValue] = st.recursive(
    st.none() | st.booleans() | json_numbers | storable_text,
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(storable_text, children, max_size=3)
    ),
    max_leaves=8,
)

metadata = st.dictionaries(
    # What stands under the others would have to be an expiry.
    storable_text.filter(lambda name: name not in EXPIRY_NAMES),
    metadata_values,
    max_size=4,
)


@st.composite
def metadata_filters(draw: st.DrawFn, kept: list[dict[str, Any]]) -> dict[str, Any]:
    """Filters that have something to do with the metadata objects in *kept*."""
    paths = {name for each in kept for name in each if not name.startswith("$")} | {"absent"}
    paths |= {
        f"{name}.{inner}"
        for each in kept
        for name, value in each.items()
        if isinstance(value, dict) and not name.startswith("$")
        for inner in value
    }
    path = draw(st.sampled_from(sorted(paths)))
    present = [value for each in kept for value in each.values()]
    value = draw(st.sampled_from(present) if present else metadata_values)
    if isinstance(value, dict):
        value = draw(metadata_values.filter(lambda other: not isinstance(other, dict)))
    choices: list[dict[str, Any]] = [
        {path: value},
        {path: {"$ne": value}},
        {path: {"$in": [value, 1, "x"]}},
        {path: {"$nin": [value]}},
        {path: {"$exists": draw(st.booleans())}},
        {path: {"$contains": value}},
    ]
    is_ordered = isinstance(value, int | float | str) and not isinstance(value, bool)
    if is_ordered and len(str(value)) < 100:
        choices += [{path: {operator: value}} for operator in ("$gt", "$gte", "$lt", "$lte")]
    first, second = draw(st.sampled_from(choices)), draw(st.sampled_from(choices))
    combined = [first, {"$not": first}, {"$or": [first, second]}, {"$and": [first, second]}]
    return draw(st.sampled_from(combined))


def same_json(one: JSONValue, other: JSONValue) -> bool:
    """Return whether two values are equal type for type, with ``-0.0`` apart from ``0.0``."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_json(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same_json, one, other))
    return repr(one) == repr(other)
