"""A connection string is read as libpq reads it, and no secret in it is ever shown."""

from __future__ import annotations

import pickle
import traceback
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltm.errors import ValidationError
from ltm.sql.addresses import PostgresAddress, parse_address, scrub, supabase_mode

SECRET = "hunter2hunter2"

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
some_text = text.filter(bool)


def refusal(*arguments: object, **parts: object) -> tuple[str, str]:
    """Return the message of the error, and all that a log of it could show."""
    with pytest.raises(ValidationError) as caught:
        parse_address(*arguments, **parts)  # type: ignore[arg-type]
    error = caught.value
    assert error.__context__ is None
    assert error.__cause__ is None
    shown = "".join(traceback.format_exception(error)) + repr(error)
    return str(error), shown


@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        (
            "postgresql://me:pw@db.example:6000/ltm",
            {"user": "me", "password": "pw", "host": "db.example", "port": 6000, "dbname": "ltm"},
        ),
        ("postgres://h/d", {"host": "h", "dbname": "d"}),
        ("postgresql+psycopg://h/d", {"host": "h", "dbname": "d"}),
        ("PostgreSQL://h/d", {"host": "h", "dbname": "d"}),
        ("  postgresql://h/d\n", {"host": "h", "dbname": "d"}),
        ("postgresql://", {}),
        ("postgresql://h", {"host": "h"}),
        ("postgresql://h:/", {"host": "h"}),
        ("postgresql:///d", {"dbname": "d"}),
        ("postgresql://u@/d", {"user": "u", "dbname": "d"}),
        ("postgresql://u:@h", {"user": "u", "host": "h"}),
        ("postgresql://:pw@h", {"password": "pw", "host": "h"}),
        ("postgresql://h/a/b#c", {"host": "h", "dbname": "a/b#c"}),
        ("postgresql://[::1]", {"host": "::1"}),
        ("postgresql://u@[2001:db8::1]:1", {"user": "u", "host": "2001:db8::1", "port": 1}),
        ("postgresql://[fe80::1%25eth0]:65535", {"host": "fe80::1%eth0", "port": 65535}),
        ("postgresql://%2Ftmp/d", {"host": "/tmp", "dbname": "d"}),
        ("postgresql:///d?host=/tmp&port=5433", {"host": "/tmp", "dbname": "d", "port": 5433}),
        ("postgresql://?user=u&password=p&dbname=d", {"user": "u", "password": "p", "dbname": "d"}),
        ("postgresql://h?", {"host": "h"}),
        (
            "postgresql://h/d?sslmode=require&connect_timeout=3",
            {"host": "h", "dbname": "d", "sslmode": "require", "connect_timeout": "3"},
        ),
        ("postgresql://h?ssl=true", {"host": "h", "sslmode": "require"}),
        ("postgresql://h?application_name=a+b%26c", {"host": "h", "application_name": "a+b&c"}),
        ("postgresql://h?application_name=me@home", {"host": "h", "application_name": "me@home"}),
        ("postgresql://h?options=-c%20a=b", {"host": "h", "options": "-c a=b"}),
        ("host=localhost dbname=ltm", {"host": "localhost", "dbname": "ltm"}),
        (" host = 'a b'\n password='x\\'y\\\\z' ", {"host": "a b", "password": "x'y\\z"}),
        ("password=a\\ b user=x", {"password": "a b", "user": "x"}),
        ("host=a'b port=1", {"host": "a'b", "port": 1}),
        ("host='a'port=1", {"host": "a", "port": 1}),
        ("host= user=u", {"host": "user=u"}),
        ("host='' user=u", {"host": "", "user": "u"}),
        ("password=a=b://c@d", {"password": "a=b://c@d"}),
        ("service=mine", {"service": "mine"}),
    ],
)  # fmt: skip
def test_a_connection_string_is_read_as_libpq_reads_it(written, arguments):
    assert parse_address(written).connect_arguments() == arguments


@pytest.mark.parametrize(
    "written",
    [
        "postgresql://me:pw@db.example:6000/ltm",
        "postgresql://u:@h",
        "postgresql://:pw@h/d?",
        "postgresql://h:/",
        "postgresql://[fe80::1]:65535/a/b#c",
        "postgresql://%2Ftmp/d?ssl=true&application_name=a+b",
        "postgresql:///d?host=/tmp&port=5433",
        " host = 'a b'\n password='x\\'y\\\\z' ",
        "password=a\\ b user=x",
        "host='a'port=1",
        "host= user=u",
        "host='' user=u",
    ],
)
def test_libpq_itself_agrees(written):
    conninfo = pytest.importorskip("psycopg.pq").Conninfo
    options = conninfo.parse(written.encode())
    found = {each.keyword.decode(): each.val.decode() for each in options if each.val is not None}
    ours = {name: str(value) for name, value in parse_address(written).connect_arguments().items()}
    assert ours == found


def test_every_keyword_of_libpq_is_taken():
    conninfo = pytest.importorskip("psycopg.pq").Conninfo
    keywords = {each.keyword.decode() for each in conninfo.get_defaults()} - {"sslmode", "port"}
    for keyword in keywords:
        assert keyword in parse_address(f"{keyword}=1").connect_arguments()


def test_psycopg_takes_the_arguments():
    conninfo = pytest.importorskip("psycopg.conninfo")
    address = parse_address("postgresql://u:p%20%27%5C@h:1/d?sslmode=require&connect_timeout=3")
    made = conninfo.make_conninfo(**address.connect_arguments())
    assert parse_address(made) == address


@given(user=some_text, password=some_text, database=some_text)
def test_any_user_password_and_database_survive_a_url(user, password, database):
    encoded = [quote(each, safe="") for each in (user, password, database)]
    address = parse_address("postgresql://{}:{}@h:1/{}".format(*encoded))
    assert (address.user, address.password, address.database) == (user, password, database)
    assert (address.host, address.port) == ("h", 1)


@given(password=st.text("@:/#+ a'\"\\", min_size=1))
def test_a_password_may_hold_separators_as_they_are(password):
    address = parse_address(f"postgresql://u:{password}@h:1/d")
    assert (address.user, address.password, address.where) == (
        "u",
        password,
        "postgresql://u@h:1/d",
    )


@given(values=st.tuples(text, text, text))
def test_any_value_survives_key_value_pairs(values):
    quoted = [value.replace("\\", "\\\\").replace("'", "\\'") for value in values]
    address = parse_address("user='{}' password = '{}'\tdbname='{}'".format(*quoted))
    assert (address.user, address.password, address.database) == values


@given(
    user=st.none() | some_text,
    host=st.sampled_from([None, "h", "::1", "fe80::1%eth0", "/tmp/a:b", "@abstract", "ü.example"]),
    port=st.none() | st.integers(1, 65535),
    database=st.none() | some_text,
)
def test_where_is_a_url_that_means_the_same_place(user, host, port, database):
    address = PostgresAddress(
        host=host, port=port, database=database, user=user, password=SECRET,
        parameters={"sslpassword": SECRET},
    )  # fmt: skip
    assert SECRET not in address.where
    assert parse_address(address.where) == PostgresAddress(
        host=host, port=port, database=database, user=user
    )


@pytest.mark.parametrize(
    ("written", "where"),
    [
        ("", "postgresql://"),
        ("user=u password=p host=h port=5432 dbname=d", "postgresql://u@h:5432/d"),
        ("user=a@b:c host=h dbname=d/e", "postgresql://a%40b%3Ac@h/d%2Fe"),
        ("host=::1 port=1", "postgresql://[::1]:1"),
        ("host=/tmp/a:b dbname=d", "postgresql://%2Ftmp%2Fa%3Ab/d"),
    ],
)
def test_where_is_written_as_libpq_would(written, where):
    assert (parse_address(written) if written else parse_address()).where == where


def test_parts_are_an_address_and_absent_ones_are_left_to_libpq():
    address = parse_address(
        host="h", port=1, database="d", user="u", password="@:/%", sslmode="verify-full"
    )
    assert address.connect_arguments() == {
        "host": "h", "port": 1, "dbname": "d", "user": "u", "password": "@:/%",
        "sslmode": "verify-full",
    }  # fmt: skip
    assert parse_address().connect_arguments() == {}
    assert parse_address(host="", password="").connect_arguments() == {"host": "", "password": ""}
    assert parse_address(database="postgresql://x").database == "postgresql://x"


def test_sslmode_adds_to_a_connection_string_that_has_none():
    assert parse_address("postgresql://h", sslmode="require").parameters == {"sslmode": "require"}
    message, _ = refusal("postgresql://h?sslmode=disable", sslmode="require")
    assert message == "connection_string: sslmode: given twice"


@pytest.mark.parametrize(
    "part", [{"host": "h"}, {"port": 1}, {"database": ""}, {"user": "u"}, {"password": "p"}]
)
def test_a_connection_string_excludes_each_part(part):
    message, _ = refusal("postgresql://h/d", **part)
    assert message == f"connection_string: excludes {next(iter(part))}"


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"port": 0}, "port: expected 1 to 65535"),
        ({"port": 65536}, "port: expected 1 to 65535"),
        ({"port": -1}, "port: expected 1 to 65535"),
        ({"port": 10**5000}, "port: expected 1 to 65535"),
        ({"port": True}, "port: expected int, got bool"),
        ({"port": "5432"}, "port: expected int, got str"),
        ({"port": 5432.0}, "port: expected int, got float"),
        ({"host": 1}, "host: expected str, got int"),
        ({"host": "a,b"}, "host: expected one, got a list"),
        ({"database": b"d"}, "database: expected str, got bytes"),
        ({"user": ["u"]}, "user: expected str, got list"),
        ({"password": 123}, "password: expected str, got int"),
        ({"password": "a\0b"}, "password: holds NUL"),
        ({"password": "a\ud800"}, "password: is not UTF-8"),
        ({"sslmode": "on"}, "sslmode: expected 'disable' or"),
        ({"sslmode": True}, "sslmode: expected str, got bool"),
        ({"connection_string": 5}, "connection_string: expected str, got int"),
    ],
)
def test_a_part_of_the_wrong_kind_is_refused_by_its_name(parts, message):
    assert refusal(**parts)[0].startswith(message)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("", "connection_string: is empty"),
        (" \n", "connection_string: is empty"),
        ("postgresql+asyncpg://u:{}@h/d", "connection_string: scheme 'postgresql+asyncpg' is not"),
        ("mysql://u:{}@h/d", "connection_string: scheme 'mysql' is not one of postgresql, "),
        ("sqlite:///{}", "connection_string: scheme 'sqlite' is not"),
        ("u:{}@h/d", "connection_string: expected a postgresql:// URL or key=value pairs"),
        ("postgresql:u:{}@h/d", "connection_string: expected a postgresql:// URL"),
        ("{}", "connection_string: expected a postgresql:// URL or key=value pairs"),
        ("postgresql://u:{}", "connection_string: port: expected 1 to 65535"),
        ("postgresql://u:{}@h:0", "connection_string: port: expected 1 to 65535"),
        ("postgresql://u:{}@h:1x", "connection_string: port: expected 1 to 65535"),
        ("postgresql://u:{}@h:٣", "connection_string: port: expected 1 to 65535"),
        ("postgresql://u:{}@::1/d", "connection_string: expected one host, host:port or [IPv6"),
        ("postgresql://u:{}@[::1/d", "connection_string: expected one host, host:port or [IPv6"),
        ("postgresql://u:{}@h:1:2/d", "connection_string: expected one host, host:port or [IPv6"),
        ("postgresql://u:{}@a,b/d", "connection_string: host: expected one, got a list"),
        ("postgresql://u:{}@a:1,b:2/d", "connection_string: expected one host, host:port or [IPv6"),
        ("host=a,b password={}", "connection_string: host: expected one, got a list"),
        ("hostaddr=::1,::2 password={}", "connection_string: hostaddr: expected one, got a list"),
        ("postgresql://u:{}%zz@h", "connection_string: password: a '%' itself is written as '%25'"),
        ("postgresql://u:{}%00@h", "connection_string: password: holds NUL"),
        ("postgresql://u:{}%ff@h", "connection_string: password: is not UTF-8"),
        ("postgresql://u:{}%ED%A0%80@h", "connection_string: password: is not UTF-8"),
        ("postgresql://u:{}\0@h", "connection_string: holds NUL"),
        ("postgresql://u:{}\ud800@h", "connection_string: is not UTF-8"),
        ("postgresql://u:12?{}@h", "connection_string: parameter 1 is not a keyword of libpq"),
        ("postgresql://u:12?{}=1@h", "connection_string: parameter 1 is not a keyword of libpq"),
        ("postgresql://u:{}@h?pgbouncer=true", "connection_string: parameter 1 is not a keyword"),
        ("postgresql://u:{}@h?user", "connection_string: parameter 1 is not a keyword"),
        ("postgresql://h?sslmode=require&", "connection_string: parameter 2 is not a keyword"),
        ("postgresql://h?autocommit={}", "connection_string: parameter 1 is not a keyword"),
        ("postgresql://u:{}@h?sslmode=on", "connection_string: sslmode: expected 'disable' or"),
        ("postgresql://u:{}@h?host=x", "connection_string: host: given twice"),
        ("postgresql://u:x@h?password={}", "connection_string: password: given twice"),
        ("host=a password={} host=b", "connection_string: host: given twice"),
        ("password=my {} host=h", "connection_string: expected a postgresql:// URL or key=value"),
        ("password=my {}=x host=h", "connection_string: parameter 2 is not a keyword of libpq"),
        ("password='{}", "connection_string: expected a postgresql:// URL or key=value pairs"),
        ("password='it's{}'", "connection_string: expected a postgresql:// URL or key=value pairs"),
        ("password={}\\", "connection_string: expected a postgresql:// URL or key=value pairs"),
        ("password={} port=x", "connection_string: port: expected 1 to 65535"),
        ("conninfo={}", "connection_string: parameter 1 is not a keyword of libpq"),
    ],
)
def test_what_is_wrong_with_a_connection_string_is_told_without_its_secret(written, message):
    said, shown = refusal(written.format(SECRET))
    assert said.startswith(message)
    assert SECRET not in shown


# What stands before :// is quoted as a scheme, which holds no underscore.
FUZZED_SECRET = "hunter_2_hunter"
FRAGMENTS = ["postgresql://", "u", ":", "@", "/", "?", "&", "=", "%", " ", "'", "\\", ",", "[", "]"]
FRAGMENTS += ["host", "password", "port", "é", "a@b", FUZZED_SECRET]


@given(written=st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join))
def test_a_string_of_any_shape_is_read_or_refused_without_showing_a_secret(written):
    shown = ""
    try:
        parse_address(written)
    except ValidationError as error:
        shown = "".join(traceback.format_exception(error)) + repr(error.__context__)
    assert FUZZED_SECRET not in shown


def test_reprs_and_where_show_no_secret_and_keep_the_rest():
    address = parse_address(
        f"host=h port=1 user=u dbname=d password={SECRET} sslpassword={SECRET} sslmode=require "
        f"oauth_client_secret={SECRET} scram_client_key={SECRET} sslkey=/k.pem "
        f"options='-c app.jwt_secret={SECRET}'"
    )
    for shown in (repr(address), str(address), f"{address}", address.where, repr([address])):
        assert SECRET not in shown
    assert repr(address) == (
        "PostgresAddress(host='h', port=1, database='d', user='u', password='***', "
        "parameters={'sslpassword': '***', 'sslmode': 'require', 'oauth_client_secret': '***', "
        "'scram_client_key': '***', 'sslkey': '/k.pem', 'options': '***'})"
    )
    assert repr(parse_address("options='-c statement_timeout=5'")) == (
        "PostgresAddress(parameters={'options': '-c statement_timeout=5'})"
    )
    assert repr(PostgresAddress()) == "PostgresAddress()"
    assert repr(PostgresAddress(password="")) == "PostgresAddress(password='***')"


def test_addresses_are_values():
    address = parse_address("postgresql://u:p@h?sslmode=require")
    assert address == parse_address("user=u password=p host=h sslmode=require")
    assert address != parse_address("user=u password=p host=h")
    assert len({address, pickle.loads(pickle.dumps(address))}) == 1
    with pytest.raises(AttributeError):
        address.host = "x"  # type: ignore[misc]


LOCAL = [
    "postgresql://", "host=''", "host=/var/run/postgresql", "host=@abstract", "host=localhost",
    "host=LocalHost", "host=127.0.0.1", "host=127.255.255.254", "host=::1",
    "host=0:0:0:0:0:0:0:1", "host=db.example hostaddr=127.0.0.1", "host=localhost hostaddr=''"
]  # fmt: skip
REMOTE = [
    "host=128.0.0.1", "host=0.0.0.0", "host=::2", "host=localhost.example.com",
    "host=127.0.0.1.example.com", "host=db.example", "host=localhost hostaddr=203.0.113.5",
    "host=/tmp hostaddr=203.0.113.5", "hostaddr=203.0.113.5", "hostaddr=db.example",
    "service=mine", "service=mine host=localhost"
]  # fmt: skip


@pytest.mark.parametrize("written", LOCAL + REMOTE)
def test_an_address_is_local_only_if_libpq_would_stay_on_this_machine(written):
    assert parse_address(written).is_local is (written in LOCAL)


@given(password=some_text, choices=st.data())
def test_a_password_is_scrubbed_in_any_spelling(password, choices):
    address = PostgresAddress(password=password)
    mixed = ""
    for each in password:
        encoded = "".join(f"%{byte:02x}" for byte in each.encode())
        mixed += choices.draw(st.sampled_from([each, encoded, encoded.upper()]))
    escaped = password.replace("\\", "\\\\").replace("'", "\\'")
    for spelling in (password, mixed, escaped, quote(password), quote(password, safe="")):
        assert scrub(spelling, address) == "***"


def test_scrubbing_leaves_the_rest_of_a_message():
    address = parse_address(
        f"host=h user=u password='{SECRET}' sslpassword={SECRET}longer sslmode=require"
    )
    message = f'FATAL: "u" at h: {SECRET}longer, {SECRET} and {SECRET}. sslmode=require (a.*b)'
    assert scrub(message, address) == 'FATAL: "u" at h: ***, *** and ***. sslmode=require (a.*b)'


@pytest.mark.parametrize("address", [PostgresAddress(), PostgresAddress(password="")])
def test_without_a_password_nothing_is_scrubbed(address):
    assert scrub("connection refused", address) == "connection refused"


def test_a_password_is_scrubbed_literally_and_in_linear_time():
    assert scrub("abc a.c", PostgresAddress(password="a.c")) == "abc ***"
    assert scrub("a\\'b a'b", PostgresAddress(password="a'b")) == "*** ***"
    assert scrub("% %25", PostgresAddress(password="%")) == "*** ***"
    assert scrub("\\" * 10_000, PostgresAddress(password="\\" * 50 + "x")) == "\\" * 10_000


POOLER = "aws-0-eu-central-1.pooler.supabase.com"


@pytest.mark.parametrize(
    ("written", "mode"),
    [
        ("postgresql://postgres:p@db.abcdefgh.supabase.co:5432/postgres", "direct"),
        ("postgresql://postgres:p@db.abcdefgh.supabase.co/postgres", "direct"),
        ("postgresql://postgres:p@db.abcdefgh.supabase.co:6543/postgres", "transaction"),
        (f"postgresql://postgres.abc:p@{POOLER}:5432/postgres", "session"),
        (f"postgresql://postgres.abc:p@{POOLER}/postgres", "session"),
        (f"postgresql://postgres.abc:p@{POOLER.upper()}.:5432/postgres", "session"),
        (f"postgresql://postgres.abc:p@{POOLER}:6543/postgres", "transaction"),
        ("postgresql://localhost:6543", "transaction"),
        ("postgresql://localhost:54322", "direct"),
        ("postgresql://", "direct"),
        ("host=/tmp port=6543", "transaction"),
        ("postgresql://pooler.supabase.com.example:5432", "direct"),
        ("postgresql://notpooler.supabase.com:5432", "direct"),
    ],
)
def test_the_mode_of_a_supabase_address_is_told_from_host_and_port(written, mode):
    assert supabase_mode(parse_address(written)) == mode
