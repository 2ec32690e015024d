"""Bundles bring a memory back type for type, and what is wrong with one is found."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memories import AWKWARD, Memory

from ltm.entry import validate_metadata
from ltm.errors import IntegrityError, LTMError, SnapshotNotFoundError, ValidationError
from ltm.hashing import canonical_json, hash_text
from ltm.testing.clock import FakeClock
from ltm.testing.strategies import json_values, keys, metadata, same_json
from ltm.transfer import export_bundle, import_bundle


def bundle_of(memory: Memory, **options: Any) -> bytes:
    stream = io.BytesIO()
    report = export_bundle(memory.backend, stream, **options)
    content = stream.getvalue()
    assert report.byte_size == len(content)
    assert report.total == content.count(b"\n") - 2
    return content


def sealed(lines: list[dict[str, Any]]) -> bytes:
    """Return a bundle of these header and entries with all its hashes right."""
    for fields in lines[1:]:
        fields.pop("entry_hash", None)
        fields["entry_hash"] = hash_text(json.dumps(fields, sort_keys=True))
    content = b"".join(json.dumps(fields).encode() + b"\n" for fields in lines)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    end = {"end": True, "entries": len(lines) - 1, "hash": digest}
    return content + json.dumps(end).encode() + b"\n"


def parsed(content: bytes) -> list[dict[str, Any]]:
    """Return header and entries."""
    return [json.loads(line) for line in content.splitlines()][:-1]


def test_a_bundle_brings_everything_back_type_for_type(
    here: Memory, there: Memory, clock: FakeClock
) -> None:
    here.fill()
    clock.advance(10)
    here.backend.store("a/int", 2)
    report = import_bundle(there.backend, io.BytesIO(bundle_of(here)), batch_size=4)
    assert report.imported == report.verified == report.total == len(AWKWARD)
    assert there.carried() == here.carried()
    assert there.backend.verify()["problems"] == []


def test_imported_again_not_a_row_and_not_a_file_changes(
    here: Memory, there: Memory, clock: FakeClock
) -> None:
    here.fill()
    content = bundle_of(here)
    import_bundle(there.backend, io.BytesIO(content))
    clock.advance(60)
    before = there.dump()
    assert import_bundle(there.backend, io.BytesIO(content)).unchanged == len(AWKWARD)
    assert there.dump() == before


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(keys, st.tuples(json_values, metadata), max_size=5))
def test_any_value_and_any_metadata_come_back(here: Memory, there: Memory, entries) -> None:
    for memory in (here, there):
        for key in memory.rows():
            memory.backend.delete(key)
    here.backend.store_batch(
        # An expiry of its own, so that none is looked for in the metadata.
        {"key": key, "value": value, "metadata": noted, "ttl": 60}
        for key, (value, noted) in entries.items()
    )
    import_bundle(there.backend, io.BytesIO(bundle_of(here)))
    for key, (value, noted) in entries.items():
        found = there.backend.retrieve(key)
        assert same_json(found["value"], value)
        assert same_json(found["metadata"], validate_metadata(noted))


def test_metadata_as_deep_as_can_be_stored_are_carried(here: Memory, there: Memory) -> None:
    deep: dict[str, Any] = {}
    for _ in range(499):
        deep = {"d": deep}
    here.backend.store("k", 1, deep)
    assert import_bundle(there.backend, io.BytesIO(bundle_of(here))).verified == 1


def test_a_bundle_is_ascii_with_a_header_and_an_end(here: Memory) -> None:
    here.fill()
    content = bundle_of(here)
    assert content.isascii()
    header, *_, end = [json.loads(line) for line in content.splitlines()]
    assert (header["format"], header["version"], header["table"]) == ("ltm-bundle", 1, "default")
    assert header["snapshot"] is None
    lines = content.splitlines(keepends=True)
    digest = hashlib.sha256(b"".join(lines[:-1])).hexdigest()
    assert end == {"end": True, "entries": len(AWKWARD), "hash": f"sha256:{digest}"}


def test_each_line_has_the_text_that_its_content_hash_is_of(here: Memory) -> None:
    here.fill()
    for fields in parsed(bundle_of(here))[1:]:
        value = AWKWARD[fields["key"]]
        assert fields["value_text"] == canonical_json(value)
        assert fields["content_hash"] == hash_text(fields["value_text"])


def test_streams_of_text_will_do(here: Memory, there: Memory) -> None:
    here.fill()
    stream = io.StringIO()
    export_bundle(here.backend, stream)
    assert stream.getvalue() == bundle_of(here).decode()
    stream.seek(0)
    assert import_bundle(there.backend, stream).imported == len(AWKWARD)


def test_an_empty_memory_is_a_bundle_too(here: Memory, there: Memory) -> None:
    assert import_bundle(there.backend, io.BytesIO(bundle_of(here))).total == 0


def test_a_snapshot_and_a_prefix_choose_what_is_exported(here: Memory, clock: FakeClock) -> None:
    here.fill({"a/1": 1, "a/2": "x" * 2000, "b": 1})
    taken = here.backend.create_snapshot("s")
    here.backend.store("a/2", 2)
    here.backend.store("a/3", 3)
    header, *entries = parsed(bundle_of(here, snapshot="s", prefix="a/"))
    assert header["snapshot"]["id"] == taken["snapshot_id"]
    assert header["prefix"] == "a/"
    assert [each["value_text"] for each in entries] == ["1", '"' + "x" * 2000 + '"']
    with pytest.raises(SnapshotNotFoundError):
        bundle_of(here, snapshot="nowhere")


def test_what_has_expired_is_neither_exported_nor_imported(
    here: Memory, there: Memory, clock: FakeClock
) -> None:
    here.backend.store("k/1", 1, ttl=1)
    here.backend.store("k/2", 1, ttl=10)
    here.backend.store("k/3", 1)
    clock.advance(1)
    content = bundle_of(here)
    assert [each["key"] for each in parsed(content)[1:]] == ["k/2", "k/3"]
    clock.advance(9)
    report = import_bundle(there.backend, io.BytesIO(content))
    assert (report.total, report.imported, report.expired) == (2, 1, 1)
    assert list(there.rows()) == ["k/3"]


def test_an_entry_that_is_newer_here_is_kept(here: Memory, there: Memory, clock: FakeClock) -> None:
    here.fill({"k": 1})
    clock.advance(1)
    there.backend.store("k", 2)
    report = import_bundle(there.backend, io.BytesIO(bundle_of(here)))
    assert (report.kept, report.imported) == (1, 0)
    assert there.backend.retrieve("k")["value"] == 2


def test_a_bundle_cut_off_anywhere_is_recognised_and_the_whole_one_goes_on(
    here: Memory, there: Memory
) -> None:
    here.fill({f"k/{n}": n for n in range(5)})
    content = bundle_of(here)
    for length in range(0, len(content), 7):
        with pytest.raises(IntegrityError, match="cut off"):
            import_bundle(there.backend, io.BytesIO(content[:length]), batch_size=2)
    with pytest.raises(IntegrityError, match="cut off"):
        import_bundle(there.backend, io.BytesIO(content[:-1]), batch_size=2)
    report = import_bundle(there.backend, io.BytesIO(content), batch_size=2)
    assert (report.unchanged, report.imported) == (4, 1)


def test_a_bundle_of_whole_lines_without_its_end_is_recognised(here: Memory, there: Memory) -> None:
    here.fill({f"k/{n}": n for n in range(5)})
    lines = bundle_of(here).splitlines(keepends=True)
    for count in range(len(lines)):
        with pytest.raises(IntegrityError, match=f"line {count + 1}: the bundle was cut off"):
            import_bundle(there.backend, io.BytesIO(b"".join(lines[:count])))
    assert there.rows() == {}


def test_a_bundle_that_lacks_a_line_is_recognised_before_the_last_batch_is_stored(
    here: Memory, there: Memory
) -> None:
    here.fill({f"k/{n}": n for n in range(5)})
    lines = bundle_of(here).splitlines(keepends=True)
    with pytest.raises(IntegrityError, match="expected 5 entries, read 4"):
        import_bundle(there.backend, io.BytesIO(b"".join(lines[:3] + lines[4:])))
    header = lines[0].replace(b'"default"', b'"another"')
    with pytest.raises(IntegrityError, match="of all lines"):
        import_bundle(there.backend, io.BytesIO(b"".join([header, *lines[1:]])))
    assert there.rows() == {}


def test_any_byte_that_differs_is_recognised_and_nothing_wrong_is_stored(
    here: Memory, there: Memory
) -> None:
    here.fill({"k/1": "first", "k/2": "second", "k/3": [1.5, None]})
    content, whole = bundle_of(here), here.carried()
    for position in range(0, len(content), 3):
        damaged = bytearray(content)
        damaged[position] ^= 1
        with pytest.raises((IntegrityError, ValidationError), match=r"^line \d+: "):
            import_bundle(there.backend, io.BytesIO(bytes(damaged)), batch_size=1)
    stored = there.carried()
    assert stored == {key: whole[key] for key in stored}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("value_text", '"another"'),
        ("content_hash", hash_text('"another"')),
        ("metadata", {"n": 5}),
        ("key", "k/15"),
        ("expires_at", None),
        ("updated_at", "2031-01-01T00:00:00+00:00"),
    ],
)
def test_a_changed_field_is_an_integrity_error_that_names_the_line(
    here: Memory, there: Memory, name: str, value: Any
) -> None:
    here.fill({"k/1": "first", "k/2": "second"})
    lines = bundle_of(here).splitlines(keepends=True)
    fields = json.loads(lines[1])
    assert fields[name] != value
    lines[1] = json.dumps(fields | {name: value}).encode() + b"\n"
    with pytest.raises(IntegrityError, match=r"^line 2: "):
        import_bundle(there.backend, io.BytesIO(b"".join(lines)))
    assert there.rows() == {}


def test_a_value_must_have_its_content_hash_even_where_all_else_is_right(
    here: Memory, there: Memory
) -> None:
    here.fill({"k": "first"})
    lines = parsed(bundle_of(here))
    lines[1]["value_text"] = '"another"'
    with pytest.raises(IntegrityError, match=r"^line 2: entry 'k'"):
        import_bundle(there.backend, io.BytesIO(sealed(lines)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[0].update(format="other"), "line 1: is not the header"),
        (lambda lines: lines[0].update(version=2), "line 1: the bundle has version 2"),
        (lambda lines: lines[1].update(extra=1), "line 2: extra: is unknown"),
        (lambda lines: lines[1].pop("metadata"), "line 2: metadata: is missing"),
        (lambda lines: lines[1].update(metadata=[]), "line 2: metadata: expected an object"),
        (lambda lines: lines[1].update(metadata={"a": "\0"}), "line 2: metadata.a: holds NUL"),
        (lambda lines: lines[1].update(key=""), "line 2: key: is empty"),
        (lambda lines: lines[1].update(key=7), "line 2: key: expected str"),
        (lambda lines: lines[1].update(value_text=7), "line 2: value_text: expected a string"),
        (lambda lines: lines[1].update(expires_at="soon"), "line 2: expires_at: 'soon'"),
        (lambda lines: lines[1].update(created_at=None), "line 2: created_at: expected"),
        (lambda lines: lines[1].update(updated_at="2030-01-01"), "line 2: updated_at: .* offset"),
        (lambda lines: lines.reverse() or lines.insert(0, lines.pop()), "line 3: key 'k/1'"),
        (lambda lines: lines.append(dict(lines[2])), "line 4: key 'k/2'"),
        (
            lambda lines: lines[1].update(value_text="[1,2]", content_hash=hash_text("[1,2]")),
            "line 2: value_text: is not canonical",
        ),
    ],
)
def test_a_line_that_makes_no_sense_is_a_validation_error_with_its_number(
    here: Memory, there: Memory, change: Callable[[list[dict[str, Any]]], object], message: str
) -> None:
    here.fill({"k/1": 1, "k/2": 2})
    lines = parsed(bundle_of(here))
    change(lines)
    with pytest.raises(ValidationError, match=message):
        import_bundle(there.backend, io.BytesIO(sealed(lines)))
    assert there.rows() == {}


@pytest.mark.parametrize(
    "rubbish",
    [
        b"rubbish\n",
        b"[]\n",
        b"\n",
        b"\xff\xfe\n",
        b"\x00\n",
        b"NaN\n",
        b"[" * 100_000 + b"\n",
        b'{"a": ' + b"9" * 5000 + b"}\n",
    ],
)
def test_rubbish_is_a_validation_error_with_its_line(
    here: Memory, there: Memory, rubbish: bytes
) -> None:
    with pytest.raises(ValidationError, match=r"^line 1: "):
        import_bundle(there.backend, io.BytesIO(rubbish))
    content = bundle_of(here)
    header = content.splitlines(keepends=True)[0]
    with pytest.raises(ValidationError, match=r"^line 2: "):
        import_bundle(there.backend, io.BytesIO(header + rubbish))
    with pytest.raises(ValidationError, match=r"^line 3: comes after the end"):
        import_bundle(there.backend, io.BytesIO(content + rubbish))
    with pytest.raises(ValidationError, match=r"^line 1: is not ASCII"):
        import_bundle(there.backend, io.StringIO("é\n"))


def test_a_damaged_value_is_not_exported(here: Memory) -> None:
    here.backend.store("k", "x" * 2000)
    (path,) = [path for path in here.storage.rglob("*.json") if path.is_file()]
    Path(path).write_text('"' + "y" * 2000 + '"')
    with pytest.raises(IntegrityError, match="'k'"):
        bundle_of(here)


def test_progress_is_told_after_every_page(here: Memory, there: Memory) -> None:
    here.fill({f"k/{n:03}": n for n in range(501)})
    told: list[tuple[int, int | None]] = []
    content = bundle_of(here, progress=lambda *now: told.append(now))
    import_bundle(there.backend, io.BytesIO(content), progress=lambda *now: told.append(now))
    assert told == [(500, 501), (501, 501), (500, None), (501, None)]


def test_bad_arguments_are_refused(here: Memory) -> None:
    with pytest.raises(ValidationError):
        import_bundle(here.backend, io.BytesIO(bundle_of(here)), batch_size=0)
    with pytest.raises(LTMError):
        export_bundle(None, io.BytesIO())  # type: ignore[arg-type]
