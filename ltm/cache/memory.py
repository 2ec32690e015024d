"""Finding the memory behind what a caller of the cache has at hand."""

from __future__ import annotations

from ltm.backend.parts import BackendCalls
from ltm.errors import ValidationError


def find_memory(backend: object) -> BackendCalls:
    """Return the LTM backend that *backend* is, or has in its attribute ``_ltm_backend``.

    Within a ``transaction()`` of this thread it is the one of the transaction.

    Raises:
        ValidationError: It is none, or one without a catalog.
        ClosedError: It is closed.
    """
    memory = getattr(backend, "_ltm_backend", backend)
    if not isinstance(memory, BackendCalls):
        raise ValidationError(
            "backend: expected an LTM backend over a catalog, or an object that has one in "
            f"_ltm_backend, got {type(backend).__name__}"
        )
    memory = memory.active()
    memory.require_open()
    return memory
