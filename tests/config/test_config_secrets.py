"""No secret reaches an error, its traceback, or a ``repr``."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.pretty import Pretty

from ltm.config import Settings, load_settings, mask_url, parse_settings
from ltm.errors import ValidationError

SECRET = "hunter2hunter2"

SECRET_SETTINGS = [
    {"catalog": {"type": "postgres", "host": "h", "password": SECRET}},
    {"catalog": {"type": "postgres", "connection_string": f"postgresql://u:{SECRET}@h/db"}},
    {"catalog": {"type": "supabase", "access_token": SECRET, "jwt_secret": SECRET}},
    {"catalog": {"type": "supabase", "anon_key": SECRET, "url": f"https://u:{SECRET}@h"}},
    {"catalog": {"type": "firestore", "credentials": SECRET}},
    {"catalog": {"type": "redis", "whatever": SECRET}},
    {"storage": {"uri": f"s3://key:{SECRET}@bucket/x", "options": {"secret": SECRET}}},
    {"storage": {"s3_secret_access_key": SECRET}},
]


@pytest.mark.parametrize("document", SECRET_SETTINGS)
def test_a_repr_masks_secrets_and_keeps_the_rest(document):
    settings = parse_settings(document)
    console = Console(file=io.StringIO(), width=200)
    console.print(Pretty(settings))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for text in (repr(settings), str(settings), f"{settings}", repr(settings.catalog), shown):
        assert SECRET not in text
    assert "***" in repr(settings)
    assert "table='default'" in repr(settings)


def test_a_repr_shows_what_was_set():
    catalog = parse_settings(
        {"catalog": {"type": "postgres", "host": "h", "password": "p"}}
    ).catalog
    assert repr(catalog) == "PostgresSettings(type='postgres', host='h', password='***')"
    storage = "StorageSettings(uri='./ltm_data/', format='json', options='***')"
    assert repr(Settings().storage) == storage


def chain(error: BaseException | None) -> Iterator[str]:
    """Yield the message of *error* and of all that led to it, hidden or not."""
    while error is not None:
        yield str(error)
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize(
    "document",
    [
        {"catalog": f"postgresql://u:{SECRET}@h/db"},
        {"catalog": {"type": f"postgresql://u:{SECRET}@h/db"}},
        {"catalog": {"type": "postgres", "password": [SECRET]}},
        {"catalog": {"type": "postgres", "sslmode": SECRET}},
        {"catalog": {"type": "postgres", "pool_size": SECRET}},
        {"catalog": {"type": "postgres", f"password:{SECRET}": None}},
        {"catalog": {"type": "postgres", f"postgresql://u:{SECRET}@h/db": None}},
        {"catalog": {"type": "sqlite", "connection_string": SECRET}},
        {"catalog": {"type": "redis", "password": f"{SECRET}${{"}},
        {"catalog": {"type": "redis", "password": f"{SECRET}${{NONE}}"}},
        {"storage": {"format": SECRET}},
        {"storage": {"options": SECRET}},
        {"storage": {"options": {"client_kwargs": SECRET}, "s3_region": "eu"}},
        {"storage": {"s3_secret_access_key": SECRET, "options": {"secret": SECRET}}},
        {"inline_threshold": "${SECRET}"},
        {"lazy": SECRET},
        {SECRET + " x": 1},
    ],
)
def test_an_error_and_all_that_led_to_it_tell_no_value(document):
    with pytest.raises(ValidationError) as caught:
        parse_settings(document, environ={"SECRET": SECRET})
    assert not [message for message in chain(caught.value) if SECRET in message]


@pytest.mark.parametrize(
    "text",
    [
        f"catalog: {{password: *{SECRET}}}",
        f"catalog: {{password: !{SECRET} x}}",
        f"catalog: {{password: !{SECRET}!y x}}",
        f"catalog:\n  password: {SECRET}: x",
        f"catalog:\n  password: '{SECRET}\n",
        f"catalog: {{password: {SECRET}",
        f"catalog: {{password: 1, password: {SECRET}}}",
        f"catalog: {{password: !!int {SECRET}}}",
        f"catalog: {{password: !!timestamp {SECRET}}}",
        f"catalog: {{password: '{SECRET}\x00'}}",
        f"catalog: {{password:{SECRET}, type: postgres}}",
        f'catalog: {{password: "{SECRET}\\q"}}',
        f"catalog: {{password: @{SECRET}}}",
        f"catalog: {{password: %{SECRET}}}",
        f"catalog: {{password: &{SECRET} x, type: &{SECRET} y}}",
    ],
)
def test_an_error_in_yaml_quotes_nothing_of_the_line(text, tmp_path):
    path = tmp_path / "agent.yaml"
    path.write_text(text)
    with pytest.raises(ValidationError) as caught:
        load_settings(path)
    assert not [message for message in chain(caught.value) if SECRET in message]


def test_a_file_that_is_not_utf8_is_not_quoted(tmp_path):
    path = tmp_path / "agent.yaml"
    path.write_bytes(f"password: {SECRET}\xff".encode("latin-1"))
    with pytest.raises(ValidationError) as caught:
        load_settings(path)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("postgresql://u:p@h/db", "postgresql://u:***@h/db"),
        ("postgresql+psycopg://u:p%40ss@h:5432/db?x=1", "postgresql+psycopg://u:***@h:5432/db?x=1"),
        ("postgresql://u:p@ss/w:o?r#d@h/db", "postgresql://u:***@h/db"),
        ("postgresql://u:a b\nc@h/db", "postgresql://u:***@h/db"),
        ("postgresql://u:a://b@h/db", "postgresql://u:***@h/db"),
        ("redis://:p@h", "redis://:***@h"),
        ("simplecache::s3://key:secret@bucket/x", "simplecache::s3://key:***@bucket/x"),
        ("postgresql://u:@h/db", "postgresql://u:***@h/db"),
        ("u:p@h/db", "u:***@h/db"),
        ("cannot reach redis://u:p@h/db: refused", "cannot reach redis://u:***@h/db: refused"),
        ("postgresql://h/db?user=u&password=p&x=1", "postgresql://h/db?user=u&password=***&x=1"),
        ("postgresql://h:5432/db?password=p@x", "postgresql://h:5432/db?password=***"),
        ("postgresql://u:pKEY=p@h/db", "postgresql://u:***"),
        ("postgresql://u:p@p;token=p@h/db", "postgresql://u:***"),
        ("postgresql://h1:1,h2:2/db?password=p@x", "postgresql://h1:1,h2:2/db?password=***"),
        ("host=h password='a b' dbname=d", "host=h password=*** dbname=d"),
        ("host=h PASSWORD = x dbname=d", "host=h PASSWORD = *** dbname=d"),
        ("https://h/x?X-Amz-Signature=s&sv=1", "https://h/x?X-Amz-Signature=***&sv=1"),
        ("postgresql://u@h/db", "postgresql://u@h/db"),
        ("postgresql://h:5432/db", "postgresql://h:5432/db"),
        ("sqlite:///a.db", "sqlite:///a.db"),
        ("./ltm_data/", "./ltm_data/"),
        ("", ""),
    ],
)
def test_a_url_is_shown_without_its_password(url, masked):
    assert mask_url(url) == masked
    assert mask_url(mask_url(url)) == mask_url(url)


PASSWORDS = st.lists(st.text(max_size=4) | st.sampled_from(["key=", "@", "&", "?"])).map("".join)


@given(PASSWORDS, st.sampled_from(["h/db", "h:1/d?a=b", "h1,h2/d#x"]))
def test_no_password_survives_masking(password, rest):
    masked = mask_url(f"postgresql://user:{SECRET}{password}{SECRET}@{rest}")
    assert masked.startswith("postgresql://user:***")
    assert SECRET not in masked
