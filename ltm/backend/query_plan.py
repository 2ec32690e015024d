"""What a statement needs of a memory: which columns, and which rows at most.

DuckDB parses the statement and plans it over empty tables; its syntax tree and its plan, which are
both JSON, are read here. Columns are those that the plan scans. Rows are narrowed by what the WHERE
of the one SELECT from ``entries`` says plainly; whatever else it says DuckDB applies itself, as it
applies all of it again. So rows may be too many, never too few.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ltm.backend.query_bounds import ANYTHING, Bounds, Operands, read_bounds
from ltm.errors import ValidationError
from ltm.search.filters import Filter

ENTRIES = "entries"
SNAPSHOTS = "snapshots"

ENTRY_COLUMNS = (
    "key",
    "value",
    "metadata",
    "content_hash",
    "byte_size",
    "expires_at",
    "created_at",
    "updated_at",
)

# Those that neither read files nor change the database, nor are given SQL or the name of a table,
# whose scans the syntax tree would not show.
_TABLE_FUNCTIONS = frozenset(
    {
        "duckdb_columns",
        "duckdb_functions",
        "duckdb_keywords",
        "duckdb_settings",
        "duckdb_tables",
        "duckdb_types",
        "duckdb_views",
        "generate_series",
        "icu_calendar_names",
        "json_each",
        "json_tree",
        "pg_timezone_names",
        "pragma_table_info",
        "pragma_version",
        "range",
        "repeat",
        "unnest",
    }
)

_TRUTHS = {"BETWEEN", "COMPARISON", "CONJUNCTION"}
_TRUTH_OPERATORS = {
    "COMPARE_IN",
    "COMPARE_NOT_IN",
    "OPERATOR_IS_NOT_NULL",
    "OPERATOR_IS_NULL",
    "OPERATOR_NOT",
}

_LIMITS = {"LIMIT", "STREAMING_LIMIT"}
_SCAN = "SEQ_SCAN"

Tree = Mapping[str, Any]
"""A node of the syntax tree, or of the plan, as DuckDB writes it in JSON."""


class Demand(NamedTuple):
    """The rows and columns of ``entries`` that a statement reads, perhaps with more rows."""

    columns: tuple[str, ...]
    """In the order of the table; ``key`` is always among them."""
    bounds: Bounds = ANYTHING
    limit: int | None = None
    """The first so many rows in key order will do; None for all."""

    @property
    def needs_values(self) -> bool:
        """Whether values are to be read, payloads with them."""
        return "value" in self.columns

    @property
    def condition(self) -> Filter | None:
        """What the metadata must fulfil."""
        return self.bounds.condition


def require_harmless(tree: Tree) -> None:
    """Do nothing, unless a statement may reach out of its tables, or can't mean what it says.

    Raises:
        ValidationError: A table function is not one of the allowed, or something is to be extracted
            from a condition.
    """
    for node in _nodes(tree):
        if node.get("type") == "TABLE_FUNCTION":
            name = str(node.get("function", {}).get("function_name"))
            if name.lower() not in _TABLE_FUNCTIONS:
                raise ValidationError(f"sql: the table function {name!r} is not allowed in a query")
        elif _extracts_from_truth(node):
            raise ValidationError(
                "sql: -> and ->> take all that is before them, AND, OR and = included: put "
                "parentheses around them, as in key = 'k' AND (metadata->>'type') = 'note'"
            )


def _extracts_from_truth(node: Tree) -> bool:
    """Return whether *node* is ``a AND b ->> c``, which DuckDB takes for ``(a AND b) ->> c``.

    It would answer without a word that no row matches.
    """
    if node.get("class") == "LAMBDA":
        source = node.get("lhs")
    elif node.get("class") == "FUNCTION" and node.get("function_name") in {"->", "->>"}:
        source = next(iter(node.get("children", ())), None)
    else:
        return False
    source = source or {}
    return source.get("class") in _TRUTHS or source.get("type") in _TRUTH_OPERATORS


def read_demand(tree: Tree, plan: Sequence[Tree], operands: Operands) -> Demand | None:
    """Return what a statement reads of ``entries``; None if it doesn't read it at all.

    Args:
        tree: Its syntax tree.
        plan: Its plan, made with no optimization but that of unused columns.
        operands: The parameters.
    """
    scans = [scan for scan in _scans(plan) if _table(scan) == ENTRIES]
    if not scans:
        return None
    scanned = {"key"}.union(*map(_columns, scans))
    columns = tuple(name for name in ENTRY_COLUMNS if name in scanned)
    select = _only_select(tree)
    if select is None:
        return Demand(columns)
    bounds = read_bounds(select, operands)
    return Demand(columns, bounds, _first_rows(tree, select, plan, operands))


def reads_snapshots(plan: Sequence[Tree]) -> bool:
    """Return whether a statement reads ``snapshots``."""
    return any(_table(scan) == SNAPSHOTS for scan in _scans(plan))


def _scans(plan: Sequence[Tree]) -> list[Tree]:
    return [node for root in plan for node in _nodes(root) if _name(node) == _SCAN]


def _table(scan: Tree) -> str:
    return str(scan["extra_info"].get("Table", "")).rpartition(".")[2]


def _columns(scan: Tree) -> tuple[str, ...]:
    """Return the columns that *scan* reads: a list of them, or one alone as text."""
    found = scan["extra_info"].get("Projections", ENTRY_COLUMNS)
    return tuple(found.splitlines()) if isinstance(found, str) else tuple(found)


def _only_select(tree: Tree) -> Tree | None:
    """Return the SELECT from ``entries`` and nothing else, if it alone names that table."""
    named = [
        node
        for node in _nodes(tree)
        if node.get("type") == "BASE_TABLE" and str(node.get("table_name")).lower() == ENTRIES
    ]
    if len(named) != 1 or named[0].get("column_name_alias") or named[0].get("sample"):
        return None
    for node in _nodes(tree):
        if node.get("type") == "SELECT_NODE" and node.get("from_table") is named[0]:
            # A sample is drawn before WHERE: of fewer rows it would be another.
            return None if node.get("sample") else node
    return None


def _first_rows(tree: Tree, select: Tree, plan: Sequence[Tree], operands: Operands) -> int | None:
    """Return how many rows will do for a bare ``SELECT ... FROM entries LIMIT n``."""
    if tree.get("node") is not select:
        return None
    modifiers = select.get("modifiers", [])
    if len(modifiers) != 1 or modifiers[0].get("type") != "LIMIT_MODIFIER":
        return None
    steps = [_name(node) for root in plan for node in _nodes(root) if "extra_info" in node]
    if steps[0] not in _LIMITS or steps[-1] != _SCAN or set(steps[1:-1]) - {"PROJECTION"}:
        return None
    counts = [operands.integer(modifiers[0].get(name)) for name in ("limit", "offset")]
    if counts[0] is None or (counts[1] is None and modifiers[0].get("offset") is not None):
        return None
    return counts[0] + (counts[1] or 0)


def _name(node: Tree) -> str:
    return str(node.get("name", "")).strip()


def _nodes(tree: Tree) -> Iterator[Tree]:
    """Yield *tree* and every object in it, in document order."""
    pending: list[Any] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            yield node
            pending += reversed(node.values())
        elif isinstance(node, list):
            pending += reversed(node)
