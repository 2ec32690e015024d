"""Where a PostgreSQL server is and how to get in: connection strings to libpq's keywords.

Nothing is opened and no environment is read here. A part that is absent is left to libpq, which
takes it from ``PGHOST`` and the like, or has a default. Errors never quote what stands in a
connection string, save the scheme: a string that is misread may hold the password anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Literal
from urllib.parse import quote, unquote_to_bytes

from ltm.errors import ValidationError

PoolerMode = Literal["direct", "session", "transaction"]

_SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")
_SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
# Other names would not only fail: psycopg.connect has arguments of its own, such as autocommit.
_KEYWORDS = frozenset(
    """
    application_name channel_binding client_encoding connect_timeout dbname
    fallback_application_name gssdelegation gssencmode gsslib host hostaddr keepalives
    keepalives_count keepalives_idle keepalives_interval krbsrvname load_balance_hosts
    max_protocol_version min_protocol_version oauth_client_id oauth_client_secret oauth_issuer
    oauth_scope options passfile password port replication require_auth requirepeer
    scram_client_key scram_server_key service servicefile ssl_max_protocol_version
    ssl_min_protocol_version sslcert sslcertmode sslcompression sslcrl sslcrldir sslkey
    sslkeylogfile sslmode sslnegotiation sslpassword sslrootcert sslsni target_session_attrs
    tcp_user_timeout user
    """.split()  # noqa: SIM905
)
_FIELDS = {"host": "host", "dbname": "database", "user": "user", "password": "password"}

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_LOCATION = re.compile(r"(\[[^\]/]*\]|[^:/\[\]]*)(?::([^:/]*))?(?:/(.*))?", re.DOTALL)
_PAIR = re.compile(
    r"\s*([^\s=']+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|(?!')((?:[^\s\\]|\\.)*))",
    re.DOTALL | re.ASCII,
)
_END = re.compile(r"\s*\Z", re.ASCII)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
# The names of files, sslkey and sslkeylogfile, are no secrets.
_SECRET_NAME = re.compile(r"(?i)passw|pwd|secret|token|credential|(?<!ssl)key")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PostgresAddress:
    """One PostgreSQL server, a database there, and the credentials for it.

    ``parse_address`` checks what it puts in; this constructor checks nothing.
    """

    host: str | None = None
    """Name, address, or directory of a Unix socket; an IPv6 address without brackets."""
    port: int | None = None
    database: str | None = None
    user: str | None = None
    password: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Further keywords of libpq, for example ``sslmode``."""

    def __repr__(self) -> str:
        parameters = {
            name: "***" if _is_secret(name, value) else value
            for name, value in self.parameters.items()
        }
        shown = {
            "host": self.host,
            "port": self.port,
            "database": self.database,
            "user": self.user,
            "password": None if self.password is None else "***",
            "parameters": parameters or None,
        }
        fields = (f"{name}={value!r}" for name, value in shown.items() if value is not None)
        return f"{type(self).__name__}({', '.join(fields)})"

    @property
    def where(self) -> str:
        """The address as a URL for messages, without password and parameters."""
        user = "" if self.user is None else f"{quote(self.user, safe='')}@"
        host = quote(self.host or "", safe="" if self._is_socket else ":")
        host = f"[{host}]" if ":" in host else host
        port = "" if self.port is None else f":{self.port}"
        database = "" if self.database is None else f"/{quote(self.database, safe='')}"
        return f"postgresql://{user}{host}{port}{database}"

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine: by a Unix socket, localhost or a loopback address.

        An absent host counts as local, as libpq's default is a Unix socket; ``PGHOST`` and
        ``PGHOSTADDR`` are not looked at. With ``hostaddr`` that address decides, since it is what
        libpq connects to. With ``service`` nothing is local, since a file may name another host.
        """
        address = self.parameters.get("hostaddr", "")
        if "service" in self.parameters:
            return False
        if address == "" and (self._is_socket or (self.host or "").lower() in ("", "localhost")):
            return True
        with suppress(ValueError):
            return ip_address(address or self.host or "").is_loopback
        return False

    @property
    def _is_socket(self) -> bool:
        # The @ is how libpq writes a socket in Linux's abstract namespace.
        return self.host is not None and self.host.startswith(("/", "@"))

    def connect_arguments(self) -> dict[str, str | int]:
        """Return what is present as libpq's keywords: arguments for ``psycopg.connect``."""
        parts = {
            "host": self.host,
            "port": self.port,
            "dbname": self.database,
            "user": self.user,
            "password": self.password,
        }
        present = {name: value for name, value in parts.items() if value is not None}
        return {**self.parameters, **present}


def parse_address(
    connection_string: str | None = None,
    *,
    host: str | None = None,
    port: int | None = None,
    database: str | None = None,
    user: str | None = None,
    password: str | None = None,
    sslmode: str | None = None,
) -> PostgresAddress:
    """Return the address that a connection string or its parts stand for.

    A connection string is a URL (``postgresql://``, ``postgres://``, ``postgresql+psycopg://``) or
    libpq's ``key=value`` pairs. It is read as libpq does, with these exceptions. In a URL the last
    ``@`` before the query ends the user and password, so a password may hold ``@``, ``:`` and ``/``
    as they are; ``%`` and ``?`` in it, and ``@`` in the name of a database, must be
    percent-encoded. One host only, no list; nothing is given twice; no file of services is read.

    Args:
        connection_string: Excludes all other arguments but *sslmode*, which adds to it.
        port: 1 to 65,535.
        sslmode: One of libpq's, from ``disable`` to ``verify-full``.

    Raises:
        ValidationError: What is wrong, without anything that could be secret.
    """
    parts = {"host": host, "dbname": database, "user": user, "password": password}
    given = {_FIELDS[name]: value for name, value in parts.items()} | {"port": port}
    if connection_string is None:
        pairs = [
            (name, _text(value, _FIELDS[name]))
            for name, value in parts.items()
            if value is not None
        ]
        if port is not None:
            if isinstance(port, bool) or not isinstance(port, int):
                raise ValidationError(f"port: expected int, got {type(port).__name__}")
            # Text that no port has, as the digits of a huge int are refused by the interpreter.
            pairs.append(("port", str(port) if 0 < port < 65536 else "-"))
        prefix = ""
    else:
        excluded = [name for name, value in given.items() if value is not None]
        if excluded:
            raise ValidationError(f"connection_string: excludes {', '.join(excluded)}")
        pairs = list(_read_string(_text(connection_string, "connection_string")))
        prefix = "connection_string: "
    if sslmode is not None:
        pairs.append(("sslmode", _text(sslmode, "sslmode")))
    return _assemble(pairs, prefix)


def scrub(text: str, address: PostgresAddress) -> str:
    """Return *text*, a driver's message, with ``***`` in place of the address's secrets.

    These are the password and the parameters named like a secret; found as they are,
    percent-encoded in whole or part, or with backslashes as in ``key=value`` pairs. A password that
    is also the name of a user or host hides that name too.
    """
    secrets = [value for name, value in address.parameters.items() if _SECRET_NAME.search(name)]
    secrets.append("" if address.password is None else address.password)
    # The longest first, lest one that begins another leaves the rest of it.
    patterns = [_spellings(secret) for secret in sorted(secrets, key=len, reverse=True) if secret]
    return re.sub("|".join(patterns), "***", text) if patterns else text


def supabase_mode(address: PostgresAddress) -> PoolerMode:
    """Return what stands between a client and a Supabase project's PostgreSQL at *address*.

    Port 6543 is a pooler in transaction mode on any host; any other port of the shared pooler,
    ``*.pooler.supabase.com``, is session mode. An absent port counts as 5432; ``PGPORT`` is not
    looked at. Source: Supabase's guide "Connect to your database".
    """
    if address.port == 6543:
        return "transaction"
    host = (address.host or "").lower().rstrip(".")
    return "session" if host.endswith(".pooler.supabase.com") else "direct"


def _assemble(pairs: Iterable[tuple[str, str]], prefix: str) -> PostgresAddress:
    """Return the address made of libpq's keywords; *prefix* begins what errors say."""
    values: dict[str, str] = {}
    for name, value in pairs:
        shown = _FIELDS.get(name, name)
        if name in values:
            raise ValidationError(f"{prefix}{shown}: given twice")
        if name in ("host", "hostaddr", "port") and "," in value:
            raise ValidationError(f"{prefix}{shown}: expected one, got a list")
        if name == "sslmode" and value not in _SSLMODES:
            expected = " or ".join(map(repr, _SSLMODES))
            raise ValidationError(f"{prefix}sslmode: expected {expected}")
        values[name] = value
    port = values.pop("port", "").strip()
    # Not quoted: without an @ in the URL, what stands here is the password.
    if port and (not re.fullmatch("[0-9]{1,5}", port) or not 1 <= int(port) <= 65535):
        raise ValidationError(f"{prefix}port: expected 1 to 65535")
    fields = {_FIELDS[name]: values.pop(name, None) for name in _FIELDS}
    return PostgresAddress(**fields, port=int(port) if port else None, parameters=values)


def _read_string(text: str) -> Iterator[tuple[str, str]]:
    """Yield libpq's keywords and their values from a connection string."""
    match = _SCHEME.fullmatch(text.strip())
    if match is None:
        yield from _read_pairs(text)
    elif match[1].lower() in _SCHEMES:
        yield from _read_url(match[2])
    else:
        expected = ", ".join(_SCHEMES)
        raise ValidationError(
            f"connection_string: scheme {match[1][:40]!r} is not one of {expected}"
        )


def _read_url(rest: str) -> Iterator[tuple[str, str]]:
    """Yield what a URL holds after its ``//``; empty parts are absent, as in libpq."""
    head, _, query = rest.partition("?")
    userinfo, _, location = head.rpartition("@")
    user, _, password = userinfo.partition(":")
    match = _LOCATION.fullmatch(location)
    if match is None:
        raise ValidationError(
            "connection_string: expected one host, host:port or [IPv6 address]:port after '//' or "
            "the last '@'"
        )
    host, port, database = match.groups("")
    parts = {"user": user, "password": password, "host": host, "port": port, "dbname": database}
    for name, value in parts.items():
        decoded = _decode(value, _FIELDS.get(name, name))
        if decoded:
            yield name, decoded[1:-1] if name == "host" and value.startswith("[") else decoded
    for position, pair in enumerate(query.split("&") if query else (), 1):
        name, separator, value = pair.partition("=")
        # JDBC's spelling, which libpq takes too.
        if (name, value) == ("ssl", "true"):
            name, value = "sslmode", "require"
        yield _keyword(name if separator else "", position), _decode(value, name)


def _read_pairs(text: str) -> Iterator[tuple[str, str]]:
    """Yield what libpq's ``key=value`` pairs hold: section 32.1.1.1 of PostgreSQL's manual."""
    if _END.match(text):
        raise ValidationError("connection_string: is empty")
    start, position = 0, 0
    while not _END.match(text, start):
        match = _PAIR.match(text, start)
        position += 1
        if match is None:
            raise ValidationError(
                f"connection_string: expected a postgresql:// URL or key=value pairs, and "
                f"parameter {position} is no pair; values with blanks need single quotes"
            )
        value = match[3] if match[2] is None else match[2]
        yield _keyword(match[1], position), re.sub(r"(?s)\\(.)", r"\1", value)
        start = match.end()


def _keyword(name: str, position: int) -> str:
    # By its position: in passwords that aren't encoded, a name is what follows a blank or a "?".
    if name not in _KEYWORDS:
        raise ValidationError(
            f"connection_string: parameter {position} is not a keyword of libpq with a value, "
            f"such as sslmode=require"
        )
    return name


def _decode(text: str, what: str) -> str:
    """Return *text* with its percent-encoded characters decoded; ``+`` stays what it is."""
    if _BAD_ESCAPE.search(text):
        raise ValidationError(f"connection_string: {what}: a '%' itself is written as '%25'")
    decoded = unquote_to_bytes(text).decode(errors="surrogateescape")
    return _text(decoded, f"connection_string: {what}")


def _text(value: object, what: str) -> str:
    """Return *value* if it is a string that libpq can take; errors don't quote it."""
    if not isinstance(value, str):
        raise ValidationError(f"{what}: expected str, got {type(value).__name__}")
    if "\0" in value:
        raise ValidationError(f"{what}: holds NUL")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValidationError(f"{what}: is not UTF-8")
    return value


def _is_secret(name: str, value: str) -> bool:
    # Of options, what they set counts: -c app.jwt_secret=...
    return bool(_SECRET_NAME.search(name) or (name == "options" and _SECRET_NAME.search(value)))


def _spellings(secret: str) -> str:
    """Return a regular expression for what a driver's message makes of *secret*."""
    escaped = re.sub(r"([\\'])", r"\\\1", secret)
    mixed = ""
    for character in secret:
        encoded = "".join(f"%{byte:02X}" for byte in character.encode(errors="surrogatepass"))
        # Encoded first: of %25, a % alone would leave the digits.
        mixed += f"(?:(?i:{encoded})|{re.escape(character)})"
    return mixed if escaped == secret else f"{re.escape(escaped)}|{mixed}"
