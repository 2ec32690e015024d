"""Google's clients: one for each database in a process, and what their failures mean."""

from __future__ import annotations

import os
import threading
from typing import Any, NamedTuple

from ltm.errors import (
    CatalogUnavailableError,
    LTMError,
    MissingDependencyError,
    SchemaOutOfDateError,
    ValidationError,
)
from ltm.fork_gate import forks_wait

INDEXES_FILE = "firestore.indexes.json"

_CHANNEL_OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 30_000),
    # The pool of the process gives a forked child the connections of its parent, which are dead.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
]


class ContentionError(CatalogUnavailableError):
    """Another transaction got in the way; nothing was done, and to try again is right."""


class UnreachableError(CatalogUnavailableError):
    """The server could not be reached, or went away."""


class Place(NamedTuple):
    """A Firestore database, and by whose leave it is used."""

    project: str | None
    database: str
    credentials: Any
    """The path of a service account's JSON file, credentials of ``google.auth``, or None."""


class Access(NamedTuple):
    """What requests are made with."""

    api: Any
    """The generated client, ``google.cloud.firestore_v1.services.firestore.FirestoreClient``."""
    database: str
    """The resource name of the database."""
    metadata: Any
    """What goes with every request."""


class SharedClient:
    """The client of one place in this process; closed when nobody uses it any more."""

    def __init__(self, place: Place, key: tuple[object, ...]) -> None:
        self.key = key
        self.pid = os.getpid()
        self.place = place
        self.users: set[int] = set()
        self._access: Access | None = None
        self._lock = threading.Lock()

    def access(self) -> Access:
        """Return what requests are made with, opened now if it isn't."""
        if self._access is None:
            with self._lock:
                self._access = self._access or _open(self.place)
        return self._access

    def release(self, user: object) -> None:
        """Note that *user* has gone."""
        with _sharing:
            self.users.discard(id(user))
            if self.users or self.pid != os.getpid():
                return
            _shared.pop(self.key, None)
        if self._access is not None:
            with forks_wait():
                self._access.api.transport.close()


def share_client(place: Place, user: object) -> SharedClient:
    """Return the client of *place* that this process shares, for *user* too."""
    key = _key(place)
    with _sharing:
        if key not in _shared:
            _shared[key] = SharedClient(place, key)
        _shared[key].users.add(id(user))
        return _shared[key]


def given_access(client: Any) -> Access:
    """Return how requests are made with a caller's ``google.cloud.firestore.Client``."""
    # It has no public names for these.
    return Access(client._firestore_api, client._database_string, client._rpc_metadata)


def _open(place: Place) -> Access:
    try:
        import grpc
        from google.auth.exceptions import DefaultCredentialsError
        from google.cloud.firestore import Client
        from google.cloud.firestore_v1.services.firestore import FirestoreClient
        from google.cloud.firestore_v1.services.firestore.transports import FirestoreGrpcTransport
    except ImportError as error:
        raise MissingDependencyError("google-cloud-firestore", "firestore") from error
    _keep_up(grpc)
    try:
        client = Client(place.project, _credentials(place.credentials), place.database)
    except DefaultCredentialsError as error:
        raise CatalogUnavailableError(f"catalog firestore: {error}") from error
    except OSError as error:
        raise ValidationError(f"project: {error}") from error
    # Google's client finds out who and where we are. Its channel would look for a server that was
    # away only after a pause that grows to two minutes.
    emulator: str | None = client._emulator_host
    if emulator is not None:
        channel = grpc.insecure_channel(emulator, options=_CHANNEL_OPTIONS)
    else:
        channel = FirestoreGrpcTransport.create_channel(
            client._target, credentials=client._credentials, options=_CHANNEL_OPTIONS
        )
    transport = FirestoreGrpcTransport(host=client._target, channel=channel)
    return Access(
        FirestoreClient(transport=transport), client._database_string, client._rpc_metadata
    )


def _keep_up(grpc: Any) -> None:
    """Let gRPC, once it is up, stay so: a child forked while it shuts down waits for ever."""
    global _kept
    if _kept is None:
        # It shuts down with its last channel; this one is never connected.
        _kept = grpc.insecure_channel("localhost:0")


def _credentials(given: Any) -> Any:
    if not isinstance(given, str | os.PathLike):
        return given
    from google.oauth2 import service_account

    read_file: Any = service_account.Credentials.from_service_account_file
    try:
        return read_file(os.fspath(given))
    except OSError as error:
        raise ValidationError(f"credentials: {error}") from error
    except (ValueError, AttributeError, TypeError):
        # Not chained: the message may quote the file, which holds a private key.
        problem = f"credentials: {os.fspath(given)!r} is not the file of a service account"
    raise ValidationError(problem)


def _key(place: Place) -> tuple[object, ...]:
    credentials = place.credentials
    if not isinstance(credentials, str | os.PathLike | None):
        credentials = id(credentials)
    return place.project, place.database, credentials, os.environ.get("FIRESTORE_EMULATOR_HOST")


def _forget_clients() -> None:
    """In a forked child: leave the parent's clients alone, and its lock, which may be held."""
    global _sharing
    _sharing = threading.Lock()
    _left.append(dict(_shared))
    _shared.clear()


_shared: dict[tuple[object, ...], SharedClient] = {}
_kept: Any = None
"""A channel that keeps gRPC up."""
_left: list[dict[tuple[object, ...], SharedClient]] = []
"""Clients of a process that forked this one; to destroy them here would disturb it."""
_sharing = threading.Lock()

os.register_at_fork(after_in_child=_forget_clients)


def translate(error: Exception, where: str, *, is_commit: bool) -> LTMError:
    """Return what an *error* of Google's libraries means."""
    from google.api_core import exceptions

    message = f"catalog {where}: {getattr(error, 'message', None) or error}"
    if isinstance(error, exceptions.Aborted):
        return ContentionError(message)
    if isinstance(error, exceptions.FailedPrecondition) and "index" in message:
        return SchemaOutOfDateError(
            None, INDEXES_FILE, f"{message}; deploy what 'ltm db indexes' prints"
        )
    if isinstance(error, exceptions.InvalidArgument):
        # Of a transaction that is over: the server rolled it back, for its age perhaps.
        is_over = "ransaction" in message and "too big" not in message
        return ContentionError(message) if is_over else ValidationError(message)
    doubtful = (
        exceptions.ServerError,
        exceptions.Cancelled,
        exceptions.RetryError,
        exceptions.Unknown,
    )
    if is_commit and isinstance(error, doubtful):
        message += "; whether it has committed is not known"
    if isinstance(error, exceptions.ServiceUnavailable):
        return UnreachableError(message)
    return CatalogUnavailableError(message)
