"""Access tokens of Supabase's kind: JSON Web Tokens (RFC 7519) that name a role and a tenant.

A token does here what it does at PostgREST: its role and claims become settings of a transaction,
by which row-level security decides. Errors quote neither token nor secret, and no exception that
holds them hangs on to an error.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ltm.errors import MissingDependencyError, SerializationError, ValidationError
from ltm.hashing import canonical_json
from ltm.keys import validate_name

MAX_TOKEN_LENGTH = 65_536
"""Characters; what is longer is refused unread."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHAPE = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
# Bytes that a key must have at least: RFC 7518, section 3.2.
_KEY_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
_ASYMMETRIC = {f"{family}{bits}" for family in ("RS", "PS", "ES") for bits in (256, 384, 512)}
_ASYMMETRIC |= {"ES256K", "EdDSA"}

_ROLE = re.compile(r"[a-z_][a-z0-9_]{0,62}")
# After SET ROLE none the role is that of the login, which may be above row-level security; the
# other words are SQL's names for some role or all of them.
_REFUSED_ROLES = {"none", "public", "user", "current_user", "current_role", "session_user"}
_REFUSED_ROLES |= {"postgres", "authenticator", "dashboard_user", "pgbouncer"}
_REFUSED_PREFIXES = ("supabase_", "pg_")
_SERVICE_ROLE = "service_role"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessToken:
    """What an access token says, without the token."""

    role: str
    """The PostgreSQL role in which statements run."""
    tenant: str = field(repr=False)
    """Empty only for ``service_role``, which row-level security does not hold back."""
    claims_text: str = field(repr=False)
    """All claims as canonical JSON, for the setting ``request.jwt.claims``."""
    expires_at: datetime | None = field(repr=False)
    """The UTC instant from which the token is void, or None where it has no end."""


def read_access_token(token: str, *, jwt_secret: str | None, now: datetime) -> AccessToken:
    """Return what *token* says, if it is valid at *now*.

    The tenant is the claim ``app_metadata.tenant_id``, or else ``tenant_id``, or else ``sub``;
    one that is there and unfit is an error, not passed over. ``user_metadata``, which users write
    themselves, does not count. ``aud``, ``iss`` and ``iat`` are not checked.

    Args:
        token: The compact form, at most 65,536 characters, without ``Bearer``.
        jwt_secret: The key that the token must be signed with by HMAC, as long as its hash: 32
            bytes for HS256, 48 for HS384, 64 for HS512. With None the signature is *not* checked:
            whoever can hand in a token then chooses role and tenant, so it must come from a place
            that has checked it.
        now: An aware datetime; ``exp`` and ``nbf`` are held against it without leeway.

    Raises:
        ValidationError: Malformed, unsigned or by another key, expired, not yet valid, without a
            fit role or tenant, or with claims that PostgreSQL cannot keep. Or a *jwt_secret* that
            can't be one.
        MissingDependencyError: PyJWT is not installed.
    """
    if now.utcoffset() is None:
        raise ValidationError("now: expected a datetime with a time zone")
    secret = None if jwt_secret is None else _check_secret(jwt_secret)
    claims = _parse(_payload(_check_shape(token), secret))
    claims_text = _claims_text(claims)
    expires_at = _instant(claims, "exp")
    if expires_at is not None and expires_at <= now:
        raise ValidationError(f"access_token: expired at {expires_at.isoformat()}")
    valid_from = _instant(claims, "nbf")
    if valid_from is not None and valid_from > now:
        raise ValidationError(f"access_token: not valid before {valid_from.isoformat()}")
    role = _role(claims)
    return AccessToken(
        role=role,
        tenant=_tenant(claims, optional=role == _SERVICE_ROLE),
        claims_text=claims_text,
        expires_at=expires_at,
    )


def _check_secret(jwt_secret: object) -> bytes:
    if not isinstance(jwt_secret, str):
        raise ValidationError(f"jwt_secret: expected str, got {type(jwt_secret).__name__}")
    return jwt_secret.encode(errors="surrogatepass")


def _check_shape(token: object) -> str:
    if not isinstance(token, str):
        raise ValidationError(f"access_token: expected str, got {type(token).__name__}")
    if len(token) > MAX_TOKEN_LENGTH:
        raise ValidationError(f"access_token: {len(token)} characters, at most {MAX_TOKEN_LENGTH}")
    if not _SHAPE.fullmatch(token):
        raise ValidationError("access_token: is not a JWT: expected three parts in base64url")
    return token


def _payload(token: str, secret: bytes | None) -> bytes:
    """Return the payload of *token*, signed with *secret* unless that is None."""
    try:
        from jwt import PyJWS
        from jwt.exceptions import InvalidKeyError, InvalidSignatureError, PyJWTError
    except ImportError as error:
        raise MissingDependencyError("pyjwt", "postgres") from error

    tokens = PyJWS()
    try:
        header = tokens.get_unverified_header(token)
    except (PyJWTError, RecursionError):
        header = None
    # Raised out here, as below: PyJWT's errors may quote the token.
    if header is None:
        raise ValidationError("access_token: is not a JWT: its header or encoding is unreadable")
    _check_header(header, secret)
    if token.endswith("."):
        raise ValidationError("access_token: is not signed")
    try:
        decoded = tokens.decode_complete(
            token,
            key=secret or b"",
            algorithms=list(_KEY_BYTES),
            options={"verify_signature": secret is not None},
        )
        payload: bytes = decoded["payload"]
        return payload
    except InvalidSignatureError:
        problem = "access_token: its signature is not by jwt_secret"
    except InvalidKeyError:
        problem = "jwt_secret: is a public key or certificate, expected the secret of HMAC"
    except PyJWTError:
        problem = "access_token: is not a JWT"
    raise ValidationError(problem)


def _check_header(header: dict[str, Any], secret: bytes | None) -> None:
    """Refuse all but known signatures, and with *secret* all but HMAC with a key long enough.

    An allow-list, so no spelling of ``none`` gets by: RFC 8725, sections 3.1 and 3.2.
    """
    algorithm = header.get("alg")
    if not isinstance(algorithm, str):
        raise ValidationError("access_token: its header names no algorithm (alg)")
    if algorithm.strip().lower() == "none":
        raise ValidationError("access_token: is not signed (alg is none)")
    if algorithm not in _KEY_BYTES and algorithm not in _ASYMMETRIC:
        raise ValidationError("access_token: its algorithm (alg) is not known")
    if "crit" in header or "b64" in header:
        raise ValidationError("access_token: its header has extensions that are not known (crit)")
    if secret is None:
        return
    if algorithm in _ASYMMETRIC:
        expected = ", ".join(_KEY_BYTES)
        raise ValidationError(
            f"access_token: its algorithm is {algorithm}, jwt_secret can check {expected} only"
        )
    needed = _KEY_BYTES[algorithm]
    if len(secret) < needed:
        raise ValidationError(
            f"jwt_secret: {len(secret)} bytes, at least {needed} are needed for {algorithm}"
        )


def _parse(payload: bytes) -> dict[str, Any]:
    try:
        claims = json.loads(payload.decode())
    except (ValueError, RecursionError):
        claims = None
    if not isinstance(claims, dict):
        raise ValidationError("access_token: is not a JWT: its claims are not a JSON object")
    return claims


def _claims_text(claims: dict[str, Any]) -> str:
    """Return *claims* as JSON that PostgreSQL reads as ``jsonb`` without loss."""
    try:
        text = canonical_json(claims)
        json.dumps(claims, ensure_ascii=False).encode()
        # Backslashes that stand for themselves go first, so what is left are escapes.
        if "\\u0000" not in text.replace(r"\\", ""):
            return text
        problem = "hold NUL"
    except SerializationError:
        problem = "hold NaN or an infinity, or are nested too deeply"
    except UnicodeEncodeError:
        problem = "hold a lone surrogate"
    raise ValidationError(f"access_token: its claims {problem}")


def _instant(claims: dict[str, Any], name: str) -> datetime | None:
    """Return a claim in seconds since 1970, which may have fractions, to the microsecond."""
    if name not in claims:
        return None
    seconds = claims[name]
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise ValidationError(f"access_token: {name} is {type(seconds).__name__}, not a number")
    try:
        return _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        problem = f"access_token: {name} is not between the years 1 and 9999"
    raise ValidationError(problem)


def _role(claims: dict[str, Any]) -> str:
    role = claims.get("role")
    if role is None:
        raise ValidationError("access_token: has no role")
    # Lower case only: PostgreSQL folds a name that isn't quoted, and POSTGRES would be postgres.
    if not isinstance(role, str) or not _ROLE.fullmatch(role):
        raise ValidationError("access_token: its role is not the name of a PostgreSQL role")
    if role in _REFUSED_ROLES or role.startswith(_REFUSED_PREFIXES):
        raise ValidationError(f"access_token: role {role!r} is not for tokens")
    return role


def _tenant(claims: dict[str, Any], *, optional: bool) -> str:
    app_metadata = claims.get("app_metadata")
    if isinstance(app_metadata, dict) and "tenant_id" in app_metadata:
        return validate_name(app_metadata["tenant_id"], "access_token tenant")
    for name in ("tenant_id", "sub"):
        if name in claims:
            return validate_name(claims[name], "access_token tenant")
    if optional:
        return ""
    raise ValidationError(
        "access_token: has no tenant: expected app_metadata.tenant_id, tenant_id or sub"
    )
