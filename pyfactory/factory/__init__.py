"""Where the parts meet: files become tables, jobs become commits, a version becomes a loader."""

from __future__ import annotations

from pyfactory.factory.building import BuildReport, build
from pyfactory.factory.exporting import ExportReport, export
from pyfactory.factory.forgetting import forget_records
from pyfactory.factory.importing import ImportReport, import_files
from pyfactory.factory.importing_datasets import import_dataset
from pyfactory.factory.importing_tokens import TokensReport, import_tokens
from pyfactory.factory.loading import open_loader, open_stream
from pyfactory.factory.packing import PackReport, pack
from pyfactory.factory.querying import query
from pyfactory.factory.taking import TakeReport, take_tables

__all__ = [
    "BuildReport",
    "ExportReport",
    "ImportReport",
    "PackReport",
    "TakeReport",
    "TokensReport",
    "build",
    "export",
    "forget_records",
    "import_dataset",
    "import_files",
    "import_tokens",
    "open_loader",
    "open_stream",
    "pack",
    "query",
    "take_tables",
]
