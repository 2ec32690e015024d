"""Values as texts, out of objects and into them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from ltm.errors import IntegrityError, LTMError, PayloadError
from ltm.locations import Location, locate
from ltm.payload.base import PayloadStore
from ltm.payload.codecs import Codec, Record, in_objects
from ltm.payload.formats import codec_for_path
from ltm.payload.objects import ByteRange
from ltm.payload.observed import get_ranges, put_objects
from ltm.typed import NamedTuple

MAX_GAP = 64 * 1024
"""Bytes between two values that are rather read with them than left out by another request."""

MAX_RANGE_BYTES = 8 * 2**20
"""Of one request for several values."""

Texts = list[str | LTMError]
"""For each value in order: its canonical JSON text, or why there is none."""


def write_records(
    store: PayloadStore, codec: Codec, records: Sequence[Record], name: Callable[[Record], str]
) -> list[str | LTMError]:
    """Write *records* in as few objects as the format has for them, in parallel.

    Args:
        name: Makes the path of the object whose first record is given.

    Returns:
        For each record its location, or why it could not be written.
    """
    runs = list(in_objects([len(each.text) for each in records], codec.max_records))
    paths = [name(records[run.start]) for run in runs]
    encoded = [codec.encode(records[run.start : run.stop]) for run in runs]
    contents = [(path, each.content) for path, each in zip(paths, encoded, strict=True)]
    written: list[str | LTMError] = []
    for path, each, error in zip(paths, encoded, put_objects(store, contents), strict=True):
        written += [f"{path}{part}" if error is None else error for part in each.parts]
    return written


def read_texts(store: PayloadStore, uris: Sequence[str]) -> Texts:
    """Return the texts of the values at *uris*, in parallel; neighbours are read together."""
    if not uris:
        return []
    texts: dict[str, str | LTMError] = {}
    fetches = _plan([*dict.fromkeys(uris)])
    contents = get_ranges(store, [fetch.extent for fetch in fetches])
    for fetch, content in zip(fetches, contents, strict=True):
        if isinstance(content, PayloadError):
            texts.update(dict.fromkeys(fetch.wanted, content))
        else:
            texts.update(_decode(store, fetch, content))
    return [texts[uri] for uri in uris]


class _Fetch(NamedTuple):
    """A request and the values that its answer holds."""

    extent: ByteRange
    wanted: Mapping[str, Location]


def _plan(uris: Sequence[str]) -> list[_Fetch]:
    """Return the requests that bring the values at *uris*, each of them once."""
    whole: defaultdict[str, dict[str, Location]] = defaultdict(dict)
    ranges: list[tuple[Location, str]] = []
    for uri in uris:
        location = locate(uri)
        if location.length is None:
            whole[location.path][uri] = location
        else:
            ranges.append((location, uri))
    fetches = [_Fetch(ByteRange(path), wanted) for path, wanted in whole.items()]
    group: dict[str, Location] = {}
    path, start, end = "", 0, 0
    for location, uri in sorted(ranges):
        first, length = location.start or 0, location.length or 0
        is_near = location.path == path and first - end <= MAX_GAP
        if not (is_near and first + length - start <= MAX_RANGE_BYTES):
            if group:
                fetches.append(_Fetch(ByteRange(path, start, end - start), group))
            group, path, start, end = {}, location.path, first, first
        group[uri] = location
        end = max(end, first + length)
    if group:
        fetches.append(_Fetch(ByteRange(path, start, end - start), group))
    return fetches


def _decode(store: PayloadStore, fetch: _Fetch, content: bytes) -> dict[str, str | LTMError]:
    extent = fetch.extent
    where = store.uri(extent.path)
    texts: dict[str, str | LTMError] = {}
    try:
        codec = codec_for_path(extent.path)
        if extent.length is None:
            rows = [location.start for location in fetch.wanted.values()]
            return dict(zip(fetch.wanted, codec.decode(content, rows, where=where), strict=True))
    except IntegrityError as error:
        return dict.fromkeys(fetch.wanted, error)
    for uri, location in fetch.wanted.items():
        first = (location.start or 0) - extent.start
        value = content[first : first + (location.length or 0)]
        try:
            (texts[uri],) = codec.decode(value, [None], where=store.uri(uri))
        except IntegrityError as error:
            texts[uri] = error
    return texts
