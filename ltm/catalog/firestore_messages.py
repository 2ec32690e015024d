"""Documents and queries as the messages of Firestore's protocol, and back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from google.cloud.firestore_v1 import types

from ltm.catalog.document_queries import Found, Query
from ltm.catalog.documents import Fields, Writes

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_StructuredQuery = types.StructuredQuery.pb()
_Filter = _StructuredQuery.Filter
_FieldFilter = _StructuredQuery.FieldFilter
_AND = _StructuredQuery.CompositeFilter.Operator.AND
_ASCENDING = _StructuredQuery.Direction.ASCENDING
_DESCENDING = _StructuredQuery.Direction.DESCENDING
_ID = "__name__"
_MAX_LIMIT = 2**31 - 1


def read_document(root: str, document: Any) -> Found:
    """Return the document that a message holds; *root* is what its name begins with."""
    fields = {name: _read_value(value) for name, value in document.fields.items()}
    moment = document.update_time
    return Found(document.name.removeprefix(root), fields, f"{moment.seconds}.{moment.nanos:09}")


def begin_request(database: str) -> Any:
    """Return the request to begin a transaction that writes."""
    options = types.TransactionOptions(read_write=types.TransactionOptions.ReadWrite())
    return types.BeginTransactionRequest(database=database, options=options)


def get_request(
    database: str, paths: Sequence[str], *, transaction: bytes = b"", read_time: Any = None
) -> Any:
    """Return the request for the documents at *paths*."""
    root = document_root(database)
    message = types.BatchGetDocumentsRequest.pb()(
        database=database, documents=[root + path for path in paths]
    )
    return types.BatchGetDocumentsRequest.wrap(_as_of(message, transaction, read_time))


def query_request(
    database: str, query: Query, *, transaction: bytes = b"", read_time: Any = None
) -> Any:
    """Return the request for the documents that *query* selects."""
    message = types.RunQueryRequest.pb()(parent=f"{database}/documents")
    message.structured_query.CopyFrom(_query_message(document_root(database), query))
    return types.RunQueryRequest.wrap(_as_of(message, transaction, read_time))


def total_request(
    database: str, query: Query, field: str, *, transaction: bytes = b"", read_time: Any = None
) -> Any:
    """Return the request for the number of documents and the sum of their *field*."""
    message = types.RunAggregationQueryRequest.pb()(parent=f"{database}/documents")
    asked = message.structured_aggregation_query
    asked.structured_query.CopyFrom(_query_message(document_root(database), query))
    asked.structured_query.ClearField("order_by")
    asked.aggregations.add(alias="count").count.SetInParent()
    asked.aggregations.add(alias="sum").sum.field.field_path = field
    return types.RunAggregationQueryRequest.wrap(_as_of(message, transaction, read_time))


def commit_request(database: str, writes: Writes, *, transaction: bytes = b"") -> Any:
    """Return the request to write whole documents and to delete others."""
    root = document_root(database)
    message = types.CommitRequest.pb()(database=database, transaction=transaction)
    for path, fields in writes.items():
        if fields is None:
            message.writes.add(delete=root + path)
            continue
        document = message.writes.add().update
        document.name = root + path
        for name, value in fields.items():
            _write_value(document.fields[name], value)
    return types.CommitRequest.wrap(message)


def replace_request(database: str, path: str, fields: Fields, seen: Found | None) -> Any:
    """Return the request to write a whole document if it is still as it was *seen*."""
    request = commit_request(database, {path: fields})
    condition = types.CommitRequest.pb(request).writes[0].current_document
    if seen is None:
        condition.exists = False
    else:
        seconds, _, nanos = seen.stamp.partition(".")
        condition.update_time.seconds, condition.update_time.nanos = int(seconds), int(nanos)
    return request


def decode_commit(content: bytes, transaction: bytes) -> Any:
    """Return the request that *content* holds, to be carried out in *transaction*."""
    message = types.CommitRequest.pb().FromString(content)
    message.transaction = transaction
    return types.CommitRequest.wrap(message)


def rollback_request(database: str, transaction: bytes) -> Any:
    """Return the request to end a transaction without its writes."""
    return types.RollbackRequest(database=database, transaction=transaction)


def document_root(database: str) -> str:
    """Return what the resource names of the documents in *database* begin with."""
    return f"{database}/documents/"


def _as_of(message: Any, transaction: bytes, read_time: Any) -> Any:
    if transaction:
        message.transaction = transaction
    elif read_time is not None:
        message.read_time.CopyFrom(read_time)
    return message


def _query_message(root: str, query: Query) -> Any:
    message = _StructuredQuery()
    message.from_.add(collection_id=query.collection)
    filters = [_compare(name, "EQUAL", value) for name, value in query.equal.items()]
    if query.within is not None:
        filters.append(_compare(query.within[0], "IN", query.within[1]))
    if query.contains is not None:
        name, codes = query.contains
        if len(codes) == 1:
            filters.append(_compare(name, "ARRAY_CONTAINS", codes[0]))
        else:
            filters.append(_compare(name, "ARRAY_CONTAINS_ANY", codes))
    bounds = {
        "GREATER_THAN": query.above,
        "LESS_THAN": query.below,
        "GREATER_THAN_OR_EQUAL": query.at_least,
        "LESS_THAN_OR_EQUAL": query.at_most,
    }
    filters += [
        _compare(query.order, operator, bound)
        for operator, bound in bounds.items()
        if bound is not None
    ]
    if filters:
        message.where.composite_filter.op = _AND
        message.where.composite_filter.filters.extend(filters)
    direction = _DESCENDING if query.descending else _ASCENDING
    for name in filter(None, (query.order, _ID)):
        order = message.order_by.add(direction=direction)
        order.field.field_path = name
    if query.after is not None:
        value, last = query.after
        if query.order:
            _write_value(message.start_at.values.add(), value)
        message.start_at.values.add().reference_value = f"{root}{query.collection}/{last}"
        message.start_at.before = False
    if query.limit is not None:
        message.limit.value = min(query.limit, _MAX_LIMIT)
    return message


def _compare(name: str, operator: str, value: object) -> Any:
    if value is None:
        unary = _Filter()
        unary.unary_filter.op = _StructuredQuery.UnaryFilter.Operator.IS_NULL
        unary.unary_filter.field.field_path = name
        return unary
    found = _FieldFilter(op=_FieldFilter.Operator.Value(operator))
    found.field.field_path = name
    _write_value(found.value, value)
    return _Filter(field_filter=found)


def _write_value(message: Any, value: object) -> None:
    if isinstance(value, str):
        message.string_value = value
    elif isinstance(value, bool):
        message.boolean_value = value
    elif isinstance(value, int):
        message.integer_value = value
    elif value is None:
        message.null_value = 0
    elif isinstance(value, datetime):
        since = value - _EPOCH
        message.timestamp_value.seconds = since // timedelta(seconds=1)
        message.timestamp_value.nanos = since.microseconds * 1000
    elif isinstance(value, bytes):
        message.bytes_value = value
    elif isinstance(value, Sequence):
        message.array_value.SetInParent()
        for member in value:
            _write_value(message.array_value.values.add(), member)
    else:
        raise TypeError(f"no document holds {type(value).__name__}")


def _read_value(message: Any) -> Any:
    kind = message.WhichOneof("value_type")
    if kind == "null_value":
        return None
    if kind == "timestamp_value":
        moment = message.timestamp_value
        return _EPOCH + timedelta(seconds=moment.seconds, microseconds=moment.nanos // 1000)
    if kind == "array_value":
        return [_read_value(member) for member in message.array_value.values]
    return getattr(message, kind)
