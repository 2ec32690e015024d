"""What the exceptions of fsspec drivers mean, and what of them may be shown.

Drivers raise what their HTTP clients raise, in part without a common root, so exceptions are told
by their HTTP status, by the server's code and by name. No driver is imported for it.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal
from urllib.parse import quote

from ltm.errors import LTMError
from ltm.payload.base import mask_credentials

Meaning = Literal["transient", "answer", "unknown"]
"""``transient``: may pass. ``answer``: the server's word, which stays. ``unknown``: neither."""

_LASTING_ERRORS = (
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)
_LASTING_NUMBERS = {
    errno.EINVAL,
    errno.EMSGSIZE,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.ENOSYS,
    errno.EROFS,
}

_TRANSIENT_STATUSES = {408, 425, 429, *range(500, 600)} - {501, 505}

# Those of S3 whose status doesn't tell.
_TRANSIENT_CODES = {
    "BadDigest",
    "ConditionalRequestConflict",
    "IncompleteBody",
    "OperationAborted",
    "RequestTimeout",
    "XAmzContentSHA256Mismatch",
}

# By the package that defines them; they and their subclasses.
_TRANSIENT_CLASSES = {
    "aiohttp.ClientConnectionError",
    "aiohttp.ClientPayloadError",
    "azure.IncompleteReadError",
    "azure.ServiceRequestError",
    "azure.ServiceResponseError",
    "botocore.ConnectionError",
    "botocore.HTTPClientError",
    "botocore.ResponseParserError",
    "gcsfs.ChecksumError",
    "google.TransportError",
    "urllib3.HTTPError",
}

_NO_BUCKET_CODES = {"NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted"}

_SECRET_OPTION = re.compile(r"key|secret|token|pass|credential|connection_string", re.IGNORECASE)
_SECRET_PARAMETER = re.compile(
    r"(?i)\b((?:sig|signature|x-amz-signature|x-amz-security-token|access_token|AccountKey)=)"
    r"[^&;\s'\"]+"
)


class HiddenError(Exception):
    """Stands in a traceback for a driver's exception whose text holds a secret."""


class BucketMissingError(FileNotFoundError):
    """There is no bucket in which an object could be missing."""


def meaning_of(error: BaseException) -> Meaning:
    """Return what *error*, raised by a driver, says of another attempt."""
    if isinstance(error, LTMError) or "CERTIFICATE_VERIFY_FAILED" in str(error):
        return "unknown"
    if _TRANSIENT_CLASSES & _class_names(error):
        return "transient"
    status, code = status_and_code(error)
    if status is not None:
        is_transient = status in _TRANSIENT_STATUSES or code in _TRANSIENT_CODES
        return "transient" if is_transient else "answer"
    if isinstance(error, OSError):
        # Gcsfs has no better class for status 403.
        is_lasting = isinstance(error, _LASTING_ERRORS) or str(error).startswith("Forbidden: ")
        return "answer" if is_lasting or error.errno in _LASTING_NUMBERS else "transient"
    return "unknown"


def is_name_taken(error: BaseException) -> bool:
    """Say whether a conditional write failed because there is such an object."""
    # Not every server that speaks S3 names the condition, as s3fs wants it.
    return isinstance(error, FileExistsError) or status_and_code(error)[0] == 412


def is_bucket_missing(error: BaseException) -> bool:
    """Say whether the server said that there is no such bucket or container."""
    if isinstance(error, BucketMissingError):
        return True
    return status_and_code(error)[1] in _NO_BUCKET_CODES


def secrets_in(options: Mapping[str, Any]) -> set[str]:
    """Return the texts in *options* that are not to be shown, by the names of the options."""
    found: set[str] = set()
    for name, value in options.items():
        if isinstance(value, Mapping):
            found |= secrets_in(value)
        elif isinstance(value, str) and value and _SECRET_OPTION.search(str(name)):
            found.add(value)
            for part in value.split(";"):  # of a connection string
                key, separator, text = part.partition("=")
                if separator and text and re.search(r"key$|signature$", key, re.IGNORECASE):
                    found.add(text)
    return found


def mask(text: str, secrets: set[str]) -> str:
    """Return *text* with ``***`` for each of *secrets* and for credentials in URLs."""
    masked = _SECRET_PARAMETER.sub(r"\1***", mask_credentials(text))
    for secret in sorted(secrets, key=len, reverse=True):
        for form in (secret, quote(secret, safe=""), repr(secret)[1:-1]):
            masked = masked.replace(form, "***")
    return masked


def presentable(error: Exception, secrets: set[str]) -> Exception:
    """Return *error* as the cause of another, or what stands for it where it tells a secret."""
    for each in _with_causes(error):
        text = f"{each} {each.args!r}"
        if mask(text, secrets) != text:
            return HiddenError(mask(f"{type(error).__name__}: {error}", secrets))
    return error


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield *error*, what it was raised from or while handling, and so on."""
    seen: set[int] = set()
    pending = [error]
    while pending:
        each = pending.pop(0)
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            pending += [each.__cause__, each.__context__]


def status_and_code(error: BaseException) -> tuple[int | None, str | None]:
    """Return the HTTP status behind *error* and the server's word for what is wrong."""
    for each in _with_causes(error):
        if "aiohttp.HttpProcessingError" in _class_names(each):
            continue  # its code is aiohttp's own, for an answer that broke off
        response = getattr(each, "response", None)
        if isinstance(response, Mapping):  # botocore
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            code = response.get("Error", {}).get("Code")
        else:  # azure, aiohttp, gcsfs and google
            status = next(_numbers_of(each), None) or next(_numbers_of(response), None)
            code = getattr(each, "error_code", None)
        if status is not None and 300 <= status <= 599:
            return status, None if code is None else str(getattr(code, "value", code))
    return None, None


def _numbers_of(holder: object) -> Iterator[int]:
    """Yield what may be the HTTP status that *holder* has."""
    for name in ("status_code", "status", "code"):
        number = getattr(holder, name, None)
        if str(number).isdecimal():
            yield int(str(number))


def _class_names(error: BaseException) -> set[str]:
    return {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}
