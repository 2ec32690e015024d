"""What an export needs to be installed, and that it asks the network for nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from dataset_place import Place

from ltm.errors import MissingDependencyError
from ltm.transfer import export_dataset


@pytest.mark.parametrize(
    ("dataset_format", "package"),
    [
        ("parquet", "pyarrow"),
        ("duckdb", "duckdb"),
        ("ducklake", "duckdb"),
        ("ducklake", "duckdb_extension_ducklake"),
    ],
)
def test_a_package_that_is_missing_is_named_with_its_extra(
    place: Place,
    dataset_format: str,
    package: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # DuckDB may have extensions there
    with pytest.raises(MissingDependencyError, match=r"pip install 'ltm\[duckdb\]'") as caught:
        export_dataset(place.memory, place.out / "dataset", format=dataset_format)  # type: ignore[arg-type]
    assert package.removeprefix("duckdb_extension_") in str(caught.value)
    assert place.leftovers() == []
    assert place.snapshots() == []
    assert not (tmp_path / "home").exists()


def test_parquet_needs_no_duckdb(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    assert export_dataset(place.memory, place.out / "dataset", format="parquet").total == 0


def test_the_package_loads_no_driver() -> None:
    program = (
        "import sys, ltm.transfer; "
        "print({'duckdb', 'pyarrow', 'fsspec', 'sqlalchemy.orm'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
