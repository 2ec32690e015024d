"""Moving memories between backends and files."""

from ltm.transfer.bundle import ExportReport, ImportReport, export_bundle, import_bundle
from ltm.transfer.copying import CopyReport, copy_memory

__all__ = [
    "CopyReport",
    "ExportReport",
    "ImportReport",
    "copy_memory",
    "export_bundle",
    "import_bundle",
]
