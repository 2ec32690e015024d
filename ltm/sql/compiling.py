"""From SQLAlchemy's expressions to statements that are run without it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Protocol, cast

from sqlalchemy import ARRAY, Dialect, String
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import Insert
from sqlalchemy.sql.selectable import SelectBase
from sqlalchemy.types import TypeEngine

from ltm.sql.conversions import CONVERSIONS, list_texts, write_array
from ltm.sql.execution import SCHEMA_MARK, Statement
from ltm.sql.idiom import Idiom
from ltm.sql.prepared import put_in_schema

if TYPE_CHECKING:
    from ltm.sql.prepared import Text

MAX_SHAPES = 256
"""How many statements of varying shape are kept compiled."""


class HasIdiom(Protocol):
    """What :class:`CompiledOnce` needs to know of its owner."""

    idiom: Idiom
    schema: str | None


class CompiledOnce:
    """Decorates a method that builds a statement: it is compiled when it is first asked for."""

    def __init__(self, build: Callable[[Any], ClauseElement]) -> None:
        self.build = build
        self.__doc__ = build.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: HasIdiom, owner: type) -> Statement:
        compiled = compile_statement(self.build(instance), instance.idiom, instance.schema)
        instance.__dict__[self._name] = compiled
        return compiled


class ShapedStatements:
    """Statements that come in many shapes, the latest of them kept compiled."""

    def __init__(self, idiom: Idiom, schema: str | None) -> None:
        self._idiom = idiom
        self._schema = schema
        self._compiled: dict[Hashable, Statement] = {}

    def get(self, shape: Hashable, build: Callable[[], ClauseElement]) -> Statement:
        """Return the statement of this *shape*, which *build* makes if it is new."""
        found = self._compiled.get(shape)
        if found is None:
            if len(self._compiled) >= MAX_SHAPES:
                self._compiled.clear()
            found = compile_statement(build(), self._idiom, self._schema)
            self._compiled[shape] = found
        return found


def compile_statement(expression: ClauseElement, idiom: Idiom, schema: str | None) -> Statement:
    """Return *expression* as a statement on the tables in *schema*; None for no schema's name."""
    return put_in_schema(write_text(expression, idiom), schema)


def write_text(expression: ClauseElement, idiom: Idiom) -> Text:
    """Return what SQLAlchemy has to say of *expression*, in a form that can be written down."""
    dialect = idiom.sqlalchemy()
    compiled = cast(
        SQLCompiler,
        expression.compile(
            dialect=dialect,
            compile_kwargs={"render_postcompile": True},
            schema_translate_map={None: SCHEMA_MARK.rstrip(".")},
            render_schema_translate=True,
        ),
    )
    names = compiled.positiontup if compiled.positional else list(compiled.binds)
    kinds = [compiled.binds[name].type for name in names or ()]
    columns = expression.selected_columns if isinstance(expression, SelectBase) else ()
    return (
        _operation(compiled),
        # Of texts the driver writes arrays in their binary form several times as fast.
        str(compiled).replace("%s::TEXT[]", "%b::TEXT[]"),
        tuple(names or ()),
        _named(_bind_processor(kind, dialect) for kind in kinds),
        _named(each.type.dialect_impl(dialect).result_processor(dialect, None) for each in columns),
        {name: value for name, value in compiled.params.items() if value is not None},
    )


def _bind_processor(kind: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    """Return what converts values of the type *kind* for the driver, if they need it."""
    if isinstance(kind, ARRAY):
        return list_texts if isinstance(kind.item_type, String) else write_array
    return kind.dialect_impl(dialect).bind_processor(dialect)


def _named(processors: Any) -> dict[int, str]:
    """Return the names of conversions by their places."""
    named = {place: each.__name__ for place, each in enumerate(processors) if each is not None}
    unknown = sorted(set(named.values()) - set(CONVERSIONS))
    assert not unknown, f"conversions without a name: {unknown}"  # noqa: S101 -- found at build time
    return named


def _operation(compiled: SQLCompiler) -> str:
    """Return what a statement does, which its first word may not tell: WITH."""
    for operation in ("insert", "update", "delete"):
        if getattr(compiled, f"is{operation}"):
            return operation.upper()
    writes = any(isinstance(each.element, Insert) for each in compiled.ctes or ())
    return "INSERT" if writes else "SELECT"
