"""Codecs: the canonical JSON text of a value to the bytes of its payload, and back.

The content hash covers the text, so a value has one hash in every format.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from ltm.errors import IntegrityError, ValidationError


class Codec(ABC):
    """One payload format."""

    name: ClassVar[str]
    """The word for it in settings."""
    extension: ClassVar[str]
    """What object names end in, without the dot: lower-case letters and digits."""

    @abstractmethod
    def encode(self, text: str) -> bytes:
        """Return the payload that holds the value of canonical JSON *text*."""

    @abstractmethod
    def decode(self, content: bytes, *, where: str) -> str:
        """Return the canonical JSON text that :meth:`encode` was given.

        Raises:
            IntegrityError: *content* is not in this format; *where* names what was read.
        """


class JsonCodec(Codec):
    """The text itself, in UTF-8."""

    name = "json"
    extension = "json"

    def encode(self, text: str) -> bytes:
        return text.encode()

    def decode(self, content: bytes, *, where: str) -> str:
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            raise IntegrityError(f"{where}: is not UTF-8: {error}") from error


_CODECS: dict[str, Codec] = {codec.name: codec for codec in (JsonCodec(),)}


def get_codec(name: str) -> Codec:
    """Return the codec that settings call *name*.

    Raises:
        ValidationError: There is none; the message lists those there are.
    """
    codec = _CODECS.get(name)
    if codec is None:
        raise ValidationError(f"payload format: expected one of {sorted(_CODECS)}, got {name!r}")
    return codec


def codec_for_path(path: str) -> Codec:
    """Return the codec that wrote the object at *path*, which its extension tells.

    Raises:
        IntegrityError: No codec has this extension.
    """
    for codec in _CODECS.values():
        if path.endswith(f".{codec.extension}"):
            return codec
    raise IntegrityError(f"payload {path!r}: no codec reads this extension")
