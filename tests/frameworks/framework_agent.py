"""An agent as frameworks write them: it knows the names of calls, and nothing of ``ltm``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class LongTermMemory(Protocol):
    """What a framework asks of a long-term memory."""

    def store(self, key: str, value: Any, metadata: Any = None) -> Mapping[str, Any]: ...

    def retrieve(self, key: str) -> Mapping[str, Any]: ...

    def delete(self, key: str) -> Mapping[str, Any]: ...

    def search(
        self, query: Any = None, metadata_filter: Any = None, limit: int = 10
    ) -> Mapping[str, Any]: ...

    def close(self) -> None: ...


class Agent:
    """Remembers what it is told, by a memory that it is given or makes by a factory."""

    def __init__(
        self,
        memory: Any = None,
        *,
        factory: Callable[..., Any] | None = None,
        memory_type: str = "",
        memory_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._ltm_backend = memory
        if factory is not None:
            self._ltm_backend = factory(memory_type, **(memory_options or {}))

    def learn(self, topic: str, lesson: Any, **about: Any) -> None:
        answer = self._ltm_backend.store(key=f"lesson:{topic}", value=lesson, metadata=about)
        if not answer["success"]:
            raise RuntimeError(f"{answer['error_type']}: {answer['error']}")

    def recall(self, topic: str) -> Any:
        answer = self._ltm_backend.retrieve(key=f"lesson:{topic}")
        if not answer["success"]:
            raise RuntimeError(f"{answer['error_type']}: {answer['error']}")
        return answer["value"] if answer["found"] else None

    def think(self, question: str, **about: Any) -> list[tuple[str, Any]]:
        answer = self._ltm_backend.search(query=question, metadata_filter=about, limit=3)
        return [(each["key"], each["value"]) for each in answer["results"]]

    def forget(self, topic: str) -> bool:
        return bool(self._ltm_backend.delete(key=f"lesson:{topic}")["deleted"])

    def retire(self) -> None:
        self._ltm_backend.close()


def live(agent: Agent) -> None:
    """Let *agent* learn, recall, think and forget; its memory may be any."""
    long = {"text": "Invoices are paid within thirty days. " * 100}
    agent.learn("invoices", long, kind="finance")
    agent.learn("mode", "The user prefers dark mode.", kind="taste")
    assert agent.recall("invoices") == long
    assert agent.recall("unheard") is None
    assert agent.think("when are invoices paid?") == [("lesson:invoices", long)]
    assert agent.think("which mode?", kind="finance") == []
    assert agent.forget("mode")
    assert not agent.forget("mode")
    assert agent.recall("mode") is None
