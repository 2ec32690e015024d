"""What was compiled when the library was built is what the expressions compile to."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from ltm.sql import building
from ltm.sql.building import GROUPS, build_schema, build_texts, write_module
from ltm.sql.compiling import CompiledOnce, compile_statement
from ltm.sql.idiom import Idiom
from ltm.sql.idioms import IDIOMS
from ltm.sql.prepared import PreparedStatements, schema_of


@pytest.fixture(params=sorted(IDIOMS))
def idiom(request: pytest.FixtureRequest) -> Idiom:
    return IDIOMS[request.param]


def test_the_modules_hold_what_the_expressions_compile_to(idiom: Idiom) -> None:
    module = Path(building.__file__).with_name(f"compiled_{idiom.dialect.name}.py")
    assert module.read_text() == write_module(idiom), "run `make statements`"


def test_every_statement_with_a_fixed_text_is_kept(idiom: Idiom) -> None:
    texts = import_module(f"ltm.sql.compiled_{idiom.dialect.name}").TEXTS
    fixed = {
        f"{group}.{name}"
        for group, builder in GROUPS.items()
        for base in builder.__mro__
        for name, member in vars(base).items()
        if isinstance(member, CompiledOnce)
    }
    assert len(fixed) > 40
    assert set(texts) == fixed == {name for name, _ in build_texts(idiom)}


@pytest.mark.parametrize("schema", [None, "agents", 'Agent "memory" 100%'])
def test_a_kept_statement_is_put_in_its_schema_as_sqlalchemy_does_it(
    idiom: Idiom, schema: str | None
) -> None:
    if schema is not None and idiom.dialect.makes_own_schema:
        return  # it has only one
    for group, builder in GROUPS.items():
        kept = PreparedStatements(group, idiom.dialect, schema)
        built = builder(idiom, schema)
        for base in builder.__mro__:
            for name, member in vars(base).items():
                if not isinstance(member, CompiledOnce):
                    continue
                options = {} if schema is None else {"schema_translate_map": {None: schema}}
                plain = member.build(built).compile(
                    dialect=idiom.sqlalchemy(),
                    compile_kwargs={"render_postcompile": True},
                    render_schema_translate=schema is not None,
                    **options,
                )
                expected = str(plain).replace("agents.", '"agents".')
                expected = expected.replace("%s::TEXT[]", "%b::TEXT[]")
                assert getattr(kept, name).text == expected
                assert compile_statement(member.build(built), idiom, schema).text == expected


def test_only_a_database_that_makes_its_own_schema_keeps_one() -> None:
    assert list(schema_of(IDIOMS["sqlite"].dialect)) == build_schema(IDIOMS["sqlite"])
    with pytest.raises(AttributeError):
        schema_of(IDIOMS["postgresql"].dialect)
