"""Where the parts meet: files become tables, jobs become commits, a version becomes a loader."""

from __future__ import annotations

from pyfactory.factory.building import BuildReport, build
from pyfactory.factory.importing import ImportReport, import_files
from pyfactory.factory.loading import open_loader

__all__ = ["BuildReport", "ImportReport", "build", "import_files", "open_loader"]
