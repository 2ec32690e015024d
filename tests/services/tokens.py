"""Access tokens as Supabase's authentication signs them."""

from __future__ import annotations

from typing import Any

import jwt

SECRET = "the secret of a project that exists in tests alone"


def make_token(
    tenant: str | None, *, role: str = "authenticated", secret: str = SECRET, **claims: Any
) -> str:
    """Return a token of *tenant*, with *claims* besides."""
    whole: dict[str, Any] = {"role": role, "sub": "user-1", "aud": "authenticated"}
    if tenant is not None:
        whole["app_metadata"] = {"tenant_id": tenant}
    return jwt.encode(whole | claims, secret, algorithm="HS256")
