"""Moving memories between backends and files."""

from ltm.transfer.bundle import ExportReport, ImportReport, export_bundle, import_bundle
from ltm.transfer.copying import CopyReport, copy_memory
from ltm.transfer.dataset import DatasetReport, export_dataset

__all__ = [
    "CopyReport",
    "DatasetReport",
    "ExportReport",
    "ImportReport",
    "copy_memory",
    "export_bundle",
    "export_dataset",
    "import_bundle",
]
