"""The payload formats by their names, each loaded when it is asked for."""

from __future__ import annotations

from ltm.errors import IntegrityError, ValidationError
from ltm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from ltm.payload.codecs import Codec

_HOMES = {
    "json": ("ltm.payload.codecs", "JsonCodec"),
    "parquet": ("ltm.payload.parquet", "ParquetCodec"),
    "duckdb": ("ltm.payload.containers", "DuckDBCodec"),
}
"""Module and class by name, which is what the names of its objects end in, too."""

_codecs: dict[str, Codec] = {}


def validate_format(name: str) -> str:
    """Return *name* if it is that of a format.

    Raises:
        ValidationError: It isn't; the message lists those there are.
    """
    if name not in _HOMES:
        raise ValidationError(f"payload format: expected one of {sorted(_HOMES)}, got {name!r}")
    return name


def get_codec(name: str) -> Codec:
    """Return the codec that settings call *name*.

    Raises:
        ValidationError: There is none; the message lists those there are.
    """
    if validate_format(name) not in _codecs:
        module, kind = _HOMES[name]
        _codecs.setdefault(name, getattr(__import__(module, fromlist=[kind]), kind)())
    return _codecs[name]


def codec_for_path(path: str) -> Codec:
    """Return the codec that wrote the object at *path*, which its extension tells.

    Raises:
        IntegrityError: No codec has this extension.
    """
    for name in _HOMES:
        if path.endswith(f".{name}"):
            return get_codec(name)
    raise IntegrityError(f"payload {path!r}: no codec reads this extension")
