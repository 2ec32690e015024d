"""A token counts only as it was signed, while it is valid, and without showing itself."""

from __future__ import annotations

import base64
import hmac
import json
import sys
import traceback
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltm.catalog.tokens import AccessToken, read_access_token
from ltm.errors import MissingDependencyError, ValidationError

jwt = pytest.importorskip("jwt")

SECRET = "super-secret-jwt-token-with-at-least-64-characters-so-it-suits-HS512"
OTHER_SECRET = SECRET[::-1]
NOW = datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)
"""1,000,000,000 seconds since 1970: far from the wall clock, which must not count."""
SECONDS = 1_000_000_000
CLAIMS = {"role": "authenticated", "sub": "canary-user", "exp": SECONDS + 3600}

PUBLIC_KEY = """-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEVs/o5+uQbTjL3chynL4wXgUg2R9
q9UU8I5mEovUf86QZ7kOBIjJwqnzD1omageEHWwHdBO6B+dFabmdT9POxg==
-----END PUBLIC KEY-----
"""


def part(content: bytes | str) -> str:
    raw = content.encode() if isinstance(content, str) else content
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forge(header: Any, claims: Any, secret: str = SECRET, digest: str = "sha256") -> str:
    """Return a token with any header and any claims, which bytes stand for as they are."""
    parts = [each if isinstance(each, bytes) else json.dumps(each) for each in (header, claims)]
    signed = ".".join(map(part, parts))
    return f"{signed}.{part(hmac.new(secret.encode(), signed.encode(), digest).digest())}"


def sign(claims: Any, algorithm: str = "HS256") -> str:
    return forge({"alg": algorithm, "typ": "JWT"}, claims, digest=f"sha{algorithm[2:]}")


def read(token: str, secret: str | None = SECRET, now: datetime = NOW) -> AccessToken:
    return read_access_token(token, jwt_secret=secret, now=now)


def refusal(token: Any, secret: Any = SECRET, now: datetime = NOW) -> str:
    """Return the message of the error, after looking for secrets in all that a log could show."""
    with pytest.raises(ValidationError) as caught:
        read(token, secret, now)
    error = caught.value
    assert error.__context__ is None
    assert error.__cause__ is None
    shown = "".join(traceback.format_exception(error)) + repr(error)
    hidden = [token, secret, "canary", *(str(token).split("."))]
    assert not [
        each for each in hidden if isinstance(each, str) and len(each) > 5 and each in shown
    ]
    return str(error)


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize("secret", [SECRET, None])
def test_a_token_that_pyjwt_signed_is_read(algorithm, secret):
    token = read(jwt.encode(CLAIMS, SECRET, algorithm=algorithm), secret)
    assert token == AccessToken(
        role="authenticated",
        tenant="canary-user",
        claims_text=json.dumps(CLAIMS, sort_keys=True),
        expires_at=NOW + timedelta(hours=1),
    )


def test_a_token_signed_by_another_key_is_refused():
    token = forge({"alg": "HS256"}, CLAIMS, OTHER_SECRET)
    assert refusal(token) == "access_token: its signature is not by jwt_secret"


def test_a_token_with_claims_changed_after_signing_is_refused():
    header, _, signature = sign(CLAIMS).split(".")
    tampered = f"{header}.{part(json.dumps(CLAIMS | {'role': 'service_role'}))}.{signature}"
    assert refusal(tampered) == "access_token: its signature is not by jwt_secret"


@given(position=st.integers(0, len(sign(CLAIMS)) - 1), character=st.sampled_from("Ab3-_.= é\n"))
def test_a_token_changed_anywhere_is_refused(position, character):
    token = sign(CLAIMS)
    changed = token[:position] + character + token[position + 1 :]
    if changed != token:
        refusal(changed)


@pytest.mark.parametrize("secret", [SECRET, None])
@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", " none", "none\n"])
@pytest.mark.parametrize("signature", ["", "AAAA"])
def test_a_token_without_a_signature_is_refused_however_it_says_so(secret, algorithm, signature):
    token = f"{part(json.dumps({'alg': algorithm}))}.{part(json.dumps(CLAIMS))}.{signature}"
    assert refusal(token, secret) == "access_token: is not signed (alg is none)"


@pytest.mark.parametrize("secret", [SECRET, None])
@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({}, "access_token: its header names no algorithm"),
        ({"typ": "JWT"}, "access_token: its header names no algorithm"),
        ({"alg": None}, "access_token: its header names no algorithm"),
        ({"alg": ["HS256"]}, "access_token: its header names no algorithm"),
        ({"alg": ""}, "access_token: its algorithm (alg) is not known"),
        ({"alg": "hs256"}, "access_token: its algorithm (alg) is not known"),
        ({"alg": "canary"}, "access_token: its algorithm (alg) is not known"),
        ({"alg": "none\u200b"}, "access_token: its algorithm (alg) is not known"),
        ({"alg": "HS256", "crit": ["b64"], "b64": True}, "access_token: its header has extensions"),
        ({"alg": "HS256", "crit": ["canary"], "canary": 1}, "access_token: "),
        ({"alg": "HS256", "b64": False}, "access_token: "),
        ([], "access_token: is not a JWT"),
        ("HS256", "access_token: is not a JWT"),
        (b"canary", "access_token: is not a JWT"),
        (b"\xff\xfe", "access_token: is not a JWT"),
        (b"[" * 20_000, "access_token: is not a JWT"),
    ],
)
def test_a_header_that_does_not_say_how_it_is_signed_is_refused(secret, header, message):
    assert refusal(forge(header, CLAIMS), secret).startswith(message)


def test_a_missing_signature_is_refused_even_where_it_is_not_checked():
    unsigned = sign(CLAIMS).rpartition(".")[0] + "."
    assert refusal(unsigned, None) == "access_token: is not signed"
    assert refusal(unsigned) == "access_token: is not signed"


@pytest.mark.parametrize("algorithm", ["RS256", "PS512", "ES256", "EdDSA"])
def test_a_secret_never_checks_an_asymmetric_signature(algorithm):
    confused = forge({"alg": algorithm}, CLAIMS)
    assert refusal(confused) == (
        f"access_token: its algorithm is {algorithm}, jwt_secret can check HS256, HS384, HS512 only"
    )
    assert read(confused, None).tenant == "canary-user"


def test_a_public_key_is_no_secret_so_nobody_can_sign_with_it():
    confused = forge({"alg": "HS256"}, CLAIMS, PUBLIC_KEY)
    assert refusal(confused, PUBLIC_KEY).startswith("jwt_secret: is a public key or certificate")
    assert refusal(forge({"alg": "RS256"}, CLAIMS, PUBLIC_KEY), PUBLIC_KEY).startswith(
        "access_token: its algorithm is RS256"
    )


@pytest.mark.parametrize(("algorithm", "needed"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_a_secret_shorter_than_its_hash_is_refused(algorithm, needed):
    short, enough = SECRET[: needed - 1], SECRET[:needed]
    digest = f"sha{algorithm[2:]}"
    message = refusal(forge({"alg": algorithm}, CLAIMS, short, digest), short)
    assert message == (
        f"jwt_secret: {needed - 1} bytes, at least {needed} are needed for {algorithm}"
    )
    assert read(forge({"alg": algorithm}, CLAIMS, enough, digest), enough).role == "authenticated"


@pytest.mark.parametrize(
    ("secret", "message"),
    [
        ("", "jwt_secret: 0 bytes, at least 32"),
        (SECRET.encode(), "jwt_secret: expected str, got bytes"),
        (False, "jwt_secret: expected str, got bool"),
    ],
)
def test_an_unfit_secret_never_means_that_there_is_none(secret, message):
    assert refusal(sign(CLAIMS), secret).startswith(message)


def test_a_secret_is_counted_in_bytes():
    secret = "ü" * 16
    assert read(forge({"alg": "HS256"}, CLAIMS, secret), secret).role == "authenticated"


NO_TOKENS = [
    "", ".", "..", "a.b", "....", "canary canary", f"Bearer {sign(CLAIMS)}", f" {sign(CLAIMS)}",
    f"{sign(CLAIMS)}\n", f"{sign(CLAIMS)}=", f"{sign(CLAIMS)}.AAAA",
    f".{sign(CLAIMS).partition('.')[2]}", sign(CLAIMS).replace(".", ". ", 1),
    f"{part('{}')}..AAAA", "é.é.é", "٣.٣.٣", "\ud800.a.b", "a\0.b.c",
    f"{part(json.dumps({'alg': 'HS256'}))}.A.AAAA"
]  # fmt: skip


@pytest.mark.parametrize(
    ("token", "message"),
    [
        *((token, "is not a JWT") for token in NO_TOKENS),
        ("a" * 65_537, "65537 characters, at most 65536"),
        ("a." * 5_000_000, "10000000 characters, at most 65536"),
        (b"a.b.c", "expected str, got bytes"),
        (None, "expected str, got NoneType"),
    ],
)
@pytest.mark.parametrize("secret", [SECRET, None])
def test_what_is_no_token_is_refused(token, message, secret):
    assert refusal(token, secret).startswith(f"access_token: {message}")


@given(token=st.text() | st.text("abcABC019-_.=", max_size=40), has_secret=st.booleans())
def test_any_text_is_refused_without_being_shown(token, has_secret):
    with pytest.raises(ValidationError) as caught:
        read(token, SECRET if has_secret else None)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "payload",
    [[], ["canary"], "canary", 1, None, b"", b"canary", b"{", b'{"a":1} x', b"\xff",
     json.dumps(CLAIMS).encode("utf-16"), b"[" * 20_000, b'{"a":' + b"9" * 5000 + b"}"],
)  # fmt: skip
def test_claims_that_are_no_json_object_are_refused(payload):
    assert refusal(sign(payload)).startswith("access_token: is not a JWT")
    assert refusal(sign(payload), None).startswith("access_token: is not a JWT")


@pytest.mark.parametrize("secret", [SECRET, None])
def test_a_token_ends_at_the_very_instant_of_exp(secret):
    token = sign(CLAIMS | {"exp": SECONDS})
    assert refusal(token, secret).startswith("access_token: expired at 2001-09-09T01:46:40+00:00")
    refusal(token, secret, NOW + timedelta(days=10_000))
    before = NOW - timedelta(microseconds=1)
    assert read(token, secret, before).expires_at == NOW
    elsewhere = before.astimezone(timezone(timedelta(hours=-8)))
    assert read(token, secret, elsewhere).expires_at == NOW


def test_exp_may_have_fractions_or_be_absent():
    token = read(sign(CLAIMS | {"exp": SECONDS + 0.5}))
    assert token.expires_at == NOW + timedelta(seconds=0.5)
    endless = {name: value for name, value in CLAIMS.items() if name != "exp"}
    assert read(sign(endless)).expires_at is None


@pytest.mark.parametrize("secret", [SECRET, None])
def test_a_token_begins_at_the_very_instant_of_nbf(secret):
    token = sign(CLAIMS | {"nbf": SECONDS})
    assert read(token, secret).role == "authenticated"
    message = refusal(token, secret, NOW - timedelta(microseconds=1))
    assert message.startswith("access_token: not valid before 2001-09-09T01:46:40")


@pytest.mark.parametrize("name", ["exp", "nbf"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("9999999999", "is str, not a number"),
        (True, "is bool, not a number"),
        (None, "is NoneType, not a number"),
        (10**400, "is not between the years 1 and 9999"),
        (1e300, "is not between the years 1 and 9999"),
        (-(10**12), "is not between the years 1 and 9999"),
    ],
)
def test_an_instant_that_is_none_is_refused(name, value, message):
    assert refusal(sign(CLAIMS | {name: value})) == f"access_token: {name} {message}"


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_does_not_have_are_refused(text):
    payload = f'{{"role":"authenticated","sub":"a","exp":{text}}}'.encode()
    assert refusal(sign(payload)).startswith("access_token: its claims hold NaN or an infinity")


def test_an_instant_without_a_time_zone_is_refused():
    assert refusal(sign(CLAIMS), now=NOW.replace(tzinfo=None)).startswith("now: expected")


@pytest.mark.parametrize("role", ["anon", "authenticated", "my_role", "_r2", "r" * 63])
def test_a_role_of_supabase_or_ones_own_is_taken(role):
    assert read(sign(CLAIMS | {"role": role})).role == role


@pytest.mark.parametrize(
    "role",
    ["postgres", "supabase_admin", "supabase_auth_admin", "supabase_", "pg_read_all_data", "pg_",
     "none", "public", "user", "current_user", "current_role", "session_user", "authenticator",
     "dashboard_user", "pgbouncer"],
)  # fmt: skip
@pytest.mark.parametrize("secret", [SECRET, None])
def test_a_role_above_row_level_security_is_refused_by_name(role, secret):
    message = refusal(sign(CLAIMS | {"role": role}), secret)
    assert message == f"access_token: role {role!r} is not for tokens"


@pytest.mark.parametrize(
    "role",
    ["", "POSTGRES", "Postgres", "NONE", " postgres", "postgres ", "authenticated\n", "a-b", "a.b",
     '"postgres"', "x; reset role", "x'", "1a", "é", "r" * 64, "supabase_admin\n", 1, True, [],
     ["authenticated"], {"a": 1}],
)  # fmt: skip
def test_a_role_that_is_no_plain_name_is_refused(role):
    message = refusal(sign(CLAIMS | {"role": role}))
    assert message == "access_token: its role is not the name of a PostgreSQL role"


def test_a_token_without_a_role_is_refused():
    assert refusal(sign({"sub": "canary-user"})) == "access_token: has no role"
    assert refusal(sign(CLAIMS | {"role": None})) == "access_token: has no role"


@pytest.mark.parametrize(
    ("claims", "tenant"),
    [
        ({"app_metadata": {"tenant_id": "a"}, "tenant_id": "b", "sub": "c"}, "a"),
        ({"app_metadata": {"provider": "email"}, "tenant_id": "b", "sub": "c"}, "b"),
        ({"app_metadata": None, "sub": "c"}, "c"),
        ({"app_metadata": ["tenant_id"], "sub": "c"}, "c"),
        ({"user_metadata": {"tenant_id": "z"}, "sub": "c"}, "c"),
        ({"tenant_id": "ü" * 200}, "ü" * 200),
    ],
)
def test_the_tenant_is_the_first_that_the_project_vouches_for(claims, tenant):
    assert read(sign({"role": "authenticated"} | claims)).tenant == tenant
    assert read(sign({"role": "service_role"} | claims)).tenant == tenant


@pytest.mark.parametrize("tenant", ["", None, 1, True, ["a"], {"a": 1}, "a" * 201])
@pytest.mark.parametrize("role", ["authenticated", "service_role"])
@pytest.mark.parametrize("place", ["app_metadata", "tenant_id", "sub"])
def test_a_tenant_that_is_there_and_unfit_is_not_passed_over(tenant, role, place):
    claims: dict[str, Any] = {"app_metadata": {"tenant_id": tenant}, "tenant_id": "b", "sub": "c"}
    if place != "app_metadata":
        claims = {"tenant_id": tenant, "sub": "c"} if place == "tenant_id" else {"sub": tenant}
    assert refusal(sign({"role": role} | claims)).startswith("access_token tenant: expected ")


def test_only_the_service_role_may_be_without_a_tenant():
    assert read(sign({"role": "service_role"})).tenant == ""
    message = refusal(sign({"role": "anon", "user_metadata": {"tenant_id": "canary"}}))
    assert message.startswith("access_token: has no tenant")


json_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | json_text,
    lambda each: st.lists(each, max_size=3) | st.dictionaries(json_text, each, max_size=3),
    max_leaves=8,
)


@given(more=json_values)
def test_the_claims_are_kept_as_they_are(more):
    claims = CLAIMS | {"more": more}
    token = read(sign(claims))
    assert json.loads(token.claims_text) == claims
    assert "\0" not in token.claims_text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("\0", "hold NUL"),
        ("a\0b", "hold NUL"),
        ("\\\0", "hold NUL"),
        ('"\\\\\0', "hold NUL"),
        ("\ud800", "hold a lone surrogate"),
        ("\\u0000", None),
        ("\\\\u0000", None),
        ('"\\u0000', None),
        ("\U0001f600", None),
    ],
)
def test_text_that_postgresql_cannot_keep_is_refused(text, problem):
    for more in ({"x": text}, {text: 1}, {"x": [{"y": [text]}]}, {"sub": f"t{text}"}):
        token = sign(CLAIMS | more)
        if problem is None:
            assert json.loads(read(token).claims_text) == CLAIMS | more
        else:
            assert refusal(token) == f"access_token: its claims {problem}"


def test_claims_nested_too_deeply_are_refused():
    deep = json.loads("[" * 600 + "]" * 600)
    assert "too deeply" in refusal(sign(CLAIMS | {"x": deep}))


def test_a_repr_shows_the_role_only():
    token = read(sign(CLAIMS))
    assert repr(token) == str(token) == "AccessToken(role='authenticated')"
    with pytest.raises(AttributeError):
        token.role = "postgres"  # type: ignore[misc]


def test_without_pyjwt_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "jwt", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'ltm\[postgres\]'"):
        read(sign(CLAIMS))
