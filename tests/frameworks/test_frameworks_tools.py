"""Agent frameworks make tools of bound methods by their signatures and type hints."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import ltm
from ltm import LTMBackend, create_ltm_backend
from ltm.backend.transaction import BoundBackend


def public_callables() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield every public function, and the public methods and properties of public classes."""
    for public in [*(getattr(ltm, name) for name in ltm.__all__), BoundBackend]:
        if not inspect.isclass(public):
            yield public.__name__, public
            continue
        for name in ["__init__", *(each for each in dir(public) if not each.startswith("_"))]:
            member = inspect.getattr_static(public, name)
            if isinstance(member, property):
                member = member.fget
            member = getattr(member, "__func__", member)  # of static methods and those of classes
            if inspect.isfunction(member):
                yield f"{public.__name__}.{name}", member


CALLABLES = dict(public_callables())


def test_the_calls_of_backends_and_catalogs_are_among_those_tried() -> None:
    assert {
        *("DuckDBLTMBackend.store", "DuckDBLTMBackend.transaction", "LTMBackend.query"),
        *("SQLiteCatalog.track_entry", "FirestoreCatalog.__init__", "PostgresCatalog.using"),
        *("cache_wrap", "cached", "copy_memory", "create_ltm_backend", "BoundBackend.close"),
    } <= {*CALLABLES}


@pytest.mark.parametrize("name", CALLABLES)
def test_the_hints_of_what_is_public_can_be_evaluated(name: str) -> None:
    hints = get_type_hints(CALLABLES[name])
    annotated = inspect.unwrap(CALLABLES[name]).__annotations__
    assert hints.keys() == annotated.keys()
    assert inspect.signature(CALLABLES[name], eval_str=True)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[LTMBackend]:
    with create_ltm_backend(
        catalog_config={"path": tmp_path / "agent.db"}, storage_uri=str(tmp_path / "data")
    ) as memory:
        yield memory


class Tool:
    """What a framework makes of a function that it is given: typed arguments, and a call."""

    def __init__(self, function: Callable[..., Any]) -> None:
        signature = inspect.signature(function, eval_str=True)
        hints = get_type_hints(function)
        self.function = function
        self.answers = hints.pop("return")
        self.types = {name: hints[name] for name in signature.parameters}
        self.required = {
            name
            for name, parameter in signature.parameters.items()
            if parameter.default is parameter.empty
        }

    def __call__(self, **arguments: Any) -> Any:
        assert self.required <= arguments.keys() <= self.types.keys()
        answer = self.function(**arguments)
        assert isinstance(answer, self.answers)
        return answer


def test_bound_methods_become_tools(memory: LTMBackend) -> None:
    store, retrieve, search = Tool(memory.store), Tool(memory.retrieve), Tool(memory.search)
    assert store.types["key"] is str
    assert store.types["ttl"] == float | None
    assert store.required == {"key", "value"}
    assert search.types["limit"] is int
    assert store(key="k", value={"text": "words"}, metadata={"kind": "note"})["stored"]
    assert retrieve(key="k")["value"] == {"text": "words"}
    assert search(metadata_filter={"kind": "note"})["count"] == 1


def test_hints_do_not_depend_on_what_was_imported_before() -> None:
    script = """
import sys
from ltm import DuckDBLTMBackend
assert "typing" not in sys.modules
from typing import get_type_hints
print(get_type_hints(DuckDBLTMBackend.store))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == str(get_type_hints(ltm.DuckDBLTMBackend.store)), done.stderr
