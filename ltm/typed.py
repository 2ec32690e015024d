"""What every start would take from :mod:`typing` and :mod:`contextlib`, without importing them.

To import them takes as long as all that a short program asks of its memory. Type checkers see the
names that are meant; the modules that a store and a retrieve need import these, and whatever stands
in annotations alone under ``TYPE_CHECKING``. What public methods name there has a stand-in in the
``else:`` of it, true if less exact: agent frameworks make tools of methods by
:func:`typing.get_type_hints`, which evaluates the annotations.
"""

from __future__ import annotations

from collections import namedtuple
from types import GenericAlias

TYPE_CHECKING = False

if TYPE_CHECKING:
    from contextlib import AbstractContextManager as AbstractContextManager
    from typing import Any as Any
    from typing import NamedTuple as NamedTuple
    from typing import Self as Self
    from typing import cast as cast
else:
    Any = Self = object

    class AbstractContextManager:
        """Stands for that of :mod:`contextlib` in annotations."""

        __class_getitem__ = classmethod(GenericAlias)

    class _NamedTupleMeta(type):
        """Makes named tuples of classes; their annotations stay the text that they are."""

        def __new__(cls, name, _bases, namespace):
            fields = namespace.get("__annotations__", {})
            defaults = [namespace[field] for field in fields if field in namespace]
            made = namedtuple(name, fields, defaults=defaults, module=namespace["__module__"])
            for member, value in namespace.items():
                if member not in fields and member != "__module__":
                    setattr(made, member, value)
            return made

    NamedTuple = type.__new__(_NamedTupleMeta, "NamedTuple", (), {})

    def cast(_kind, value):
        return value
