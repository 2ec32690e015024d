"""Why a PostgreSQL server could not be reached or let nobody in, in plain words.

libpq hands over the text of a refusal but not its SQLSTATE, so texts are what there is to tell by.
Those of a server that speaks another language are quoted as they are.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote, urlsplit


class Refusal(NamedTuple):
    """What is wrong, and what to do."""

    message: str
    remedy: str


_CREDENTIALS = (
    "check user and password in the connection string; a password with %, ? or @ is "
    "percent-encoded there"
)
_NAMED = "check host and port in the connection string"

# In this order: the first that occurs in the text. {0} is the server, {1} what the pattern found.
_REFUSALS: dict[str, Refusal] = {
    r"(?i:tenant or user not found|tenant/user \S+ not found)": Refusal(
        "the pooler at {0} knows no such project or user",
        "behind Supabase's pooler the user is postgres.<project>, on the host of its region: copy "
        "the string from 'Connect' in the dashboard",
    ),
    r"password authentication failed|no password supplied|authentication failed": Refusal(
        "{0} refuses the user name or the password", _CREDENTIALS
    ),
    r'role ("[^"]*") does not exist': Refusal("{0} knows no role {1}", _CREDENTIALS),
    r'database ("[^"]*") does not exist': Refusal(
        "there is no database {1} at {0}",
        "make it with 'createdb', or name another one in the connection string",
    ),
    r"no pg_hba\.conf entry": Refusal(
        "{0} lets nobody in from this machine with this user and database, or not without TLS",
        "add a line to pg_hba.conf on the server, or set sslmode=require",
    ),
    r"permission denied for database ([^\n]*)": Refusal(
        "the role may not connect to database {1} at {0}",
        "grant it: GRANT CONNECT ON DATABASE ... TO ...",
    ),
    r"too many (?:clients|connections)|remaining connection slots|max client connections": Refusal(
        "{0} has no connection left", "lower pool_max, or raise the limit of the server"
    ),
    r"the database system is [^\n]*|not accepting connections": Refusal(
        "{0} is starting or stopping", "wait, and look again"
    ),
    r"resolve host|translate host name": Refusal(
        "the name of the host in {0} is not known to this machine", _NAMED
    ),
    r"Connection refused|No such file or directory": Refusal(
        "nobody answers at {0}", f"start the server, or {_NAMED}"
    ),
    r"Network is unreachable|No route to host": Refusal(
        "there is no way from this machine to {0}",
        f"{_NAMED}; a host with IPv6 alone needs IPv6 here, or its pooler",
    ),
    r"(?i:timeout|timed out)": Refusal(
        "{0} does not answer within connect_timeout",
        f"{_NAMED}, and the firewalls between",
    ),
    r"SSL|TLS|certificate": Refusal(
        "{0} and this machine find no way to encrypt the connection: {1}",
        "see that the server offers TLS, and check sslmode and sslrootcert",
    ),
}


def explain_refusal(error: BaseException, where: str) -> Refusal | None:
    """Return what *error* of a first connection to *where* means, None where it is not known.

    Args:
        error: A ``CatalogUnavailableError`` of a pool, its password masked.
        where: The address as a URL without password.
    """
    cause = error.__cause__ or error
    text = str(getattr(cause, "orig", None) or cause)
    for pattern, refusal in _REFUSALS.items():
        found = re.search(pattern, text)
        if found is not None:
            detail = found[1] if found.lastindex else _last_line(text)
            return Refusal(refusal.message.format(_server(where), detail), refusal.remedy)
    return None


def _server(where: str) -> str:
    """Return the host and the port of *where*, as far as they are named."""
    parts = urlsplit(where)
    # Not .hostname, which is in lower case: a socket's directory may not be.
    host = parts.netloc.rpartition("@")[2].removesuffix(f":{parts.port}")
    if not host:
        return "the server that libpq takes by default"
    return f"{unquote(host)}:{parts.port or 5432}"


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1].rpartition("failed: ")[2].strip()
