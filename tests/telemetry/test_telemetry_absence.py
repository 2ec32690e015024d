"""Without OpenTelemetry nothing of it is loaded or called, and it may come at any time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

USE = """
import sys
from ltm import create_ltm_backend

memory = create_ltm_backend(
    catalog_config={"path": sys.argv[1] + "/c.db"}, storage_uri=sys.argv[1] + "/data"
)

def use():
    assert memory.store("k", "words", {"a": 1})["success"]
    assert memory.store("large", "x" * 5000)["success"]
    assert memory.retrieve("k")["found"] and memory.retrieve("large")["found"]
    assert memory.search("words")["count"] == 1
    assert memory.store_batch([("a", 1), ("b", "y" * 5000)])["success"]
    assert memory.retrieve_batch(["a", "b", "nobody"])["found"] == 2
    assert memory.query("SELECT count(*) AS n FROM entries") == [{"n": 4}]
"""

REPORT = """
import json
print(json.dumps(sorted(name for name in sys.modules if name.startswith("opentelemetry"))))
"""

FORBID = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
"""

COLLECT = """
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

spans, reader = InMemorySpanExporter(), InMemoryMetricReader()

def set_tracer_provider():
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(provider)

def set_meter_provider():
    metrics.set_meter_provider(MeterProvider([reader]))

def measured():
    found = reader.get_metrics_data()
    return {m.name for r in found.resource_metrics for s in r.scope_metrics for m in s.metrics
            if s.scope.name == "ltm"} if found else set()

def names():
    return {each.name for each in spans.get_finished_spans()}
"""


def run(script: str, directory: Path) -> Any:
    """Return the last line that *script* prints, from JSON."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, str(directory)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_using_a_memory_loads_nothing_of_opentelemetry(tmp_path: Path) -> None:
    assert run(f"{USE}\nuse(){REPORT}", tmp_path) == []


def test_a_memory_works_where_opentelemetry_is_not_installed(tmp_path: Path) -> None:
    assert run(f"{FORBID}{USE}\nuse(){REPORT}", tmp_path) == []


@pytest.mark.parametrize("before", ["", "import opentelemetry.trace, opentelemetry.metrics"])
def test_calls_and_statements_call_nothing_of_telemetry_while_nobody_collects(
    tmp_path: Path, before: str
) -> None:
    profile = """
called = []
def note(frame, event, argument):
    name = frame.f_code.co_filename
    if event == "call" and name.endswith(("telemetry.py", "observed.py")):
        called.append(frame.f_code.co_name)
memory.store("k", 0)
sys.setprofile(note)
memory.store("k", "words", {"a": 1})
memory.retrieve("k")
memory.delete("k")
sys.setprofile(None)
import json
print(json.dumps(sorted(set(called))))
"""
    called = set(run(f"{before}{USE}{profile}", tmp_path))
    # What moves payloads, of which a store has none here. Where the API is loaded, it is asked
    # whether there is a provider by now.
    assert called - {"get_ranges", "put_objects"} == ({"notice"} if before else set())


@pytest.mark.parametrize("before", ["", "import opentelemetry.trace, opentelemetry.metrics"])
def test_opentelemetry_may_be_set_up_after_a_memory_was_used(tmp_path: Path, before: str) -> None:
    later = """
use()
set_tracer_provider()
set_meter_provider()
use()
import json
print(json.dumps([sorted(names()), sorted(measured())]))
"""
    spans, metrics = run(f"{before}{USE}use(){COLLECT}{later}", tmp_path)
    calls = {"store", "retrieve", "search", "store_batch", "retrieve_batch", "query"}
    payloads = {"payload.get", "catalog.statement"}
    assert set(spans) >= {f"ltm.{name}" for name in calls | payloads}
    assert set(metrics) >= {"ltm.operation.duration", "ltm.value.size", "ltm.retrieved.keys"}


@pytest.mark.parametrize(
    ("setting", "has_spans"), [("set_tracer_provider()", True), ("set_meter_provider()", False)]
)
def test_traces_and_metrics_are_collected_without_one_another(
    tmp_path: Path, setting: str, has_spans: bool
) -> None:
    script = f"{COLLECT}{setting}{USE}use()"
    report = "\nimport json; print(json.dumps([bool(names()), bool(measured())]))"
    assert run(script + report, tmp_path) == [has_spans, not has_spans]


def test_statements_of_a_catalog_without_a_backend_are_collected(tmp_path: Path) -> None:
    script = """
import json, sys
from ltm import SQLiteCatalog
with SQLiteCatalog(sys.argv[1] + "/c.db") as catalog:
    catalog.list_entries()
    set_tracer_provider()
    assert not names()
    catalog.list_entries()
    print(json.dumps(sorted(names())))
"""
    assert run(COLLECT + script, tmp_path) == ["ltm.catalog.statement"]
