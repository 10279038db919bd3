"""Python functions of the user, named "module:name" in a job file.

A function is run from the very bytes of source that its digest was taken of, in a fresh module: what an earlier job of
this process imported under the same name is never used. The digest covers that module alone, not what it imports.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TypeAlias

from pyfactory.core.digest import Digest, digest_of
from pyfactory.core.durable import translate_os_error
from pyfactory.errors import InvalidInputError
from pyfactory.job.steps.base import FieldError

__all__ = ["Function", "Predicate", "importable", "locate_function"]

Predicate: TypeAlias = Callable[[str], bool]

_SPEC = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Function:
    """A function that has been found but not yet imported.

    Attributes:
        module: Dotted name of its module.
        name: Its name there.
        path: The file of the module.
        source: Content of that file.
    """

    module: str
    name: str
    path: Path
    source: bytes = field(repr=False)

    @property
    def source_digest(self) -> Digest:
        """Digest of the module's source."""
        return digest_of(self.source)

    def load(self) -> Predicate:
        """Run the module and return the function.

        Raises:
            InvalidInputError: The module fails, or has no such function.
        """
        # A name of its own, since the module's name may be taken by another file of that name.
        module = ModuleType(f"pyfactory_job_{self.source_digest[:16]}")
        module.__file__ = str(self.path)
        module.__package__ = self.module if self.path.name == "__init__.py" else self.module.rpartition(".")[0]
        sys.modules[module.__name__] = module
        try:
            exec(compile(self.source, str(self.path), "exec", dont_inherit=True), module.__dict__)
        except (Exception, SystemExit) as error:
            raise InvalidInputError(
                f"{self.path} cannot be imported: {type(error).__name__}: {error}",
                hint="it must be importable by itself; its folder and that of the job file are on the path",
            ) from error
        function = getattr(module, self.name, None)
        if not callable(function):
            raise InvalidInputError(f"{self.path} has no function {self.name!r}", hint="check the name after the colon")
        predicate: Predicate = function
        return predicate


def locate_function(spec: str, folder: Path) -> Function:
    """Find "module:name", looking in `folder` first; its code is not run.

    Raises:
        FieldError: The text has another form, or there is no such module or function.
    """
    found = _SPEC.fullmatch(spec)
    if not found:
        raise FieldError("function", f"{spec!r} names no function", hint='write "module:name"')
    module, name = found.groups()
    path = _source_file(module, folder)
    with translate_os_error(path):
        source = path.read_bytes()
    try:
        defined = _top_level_names(ast.parse(source, str(path)))
    except (SyntaxError, ValueError) as error:
        raise FieldError("function", f"{path} is not Python: {error}", hint="mend the module") from error
    if name not in defined:
        raise FieldError("function", f"{path} defines no {name!r}", hint="check the name after the colon")
    return Function(module, name, path, source)


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Let modules in `folder` be imported inside the block."""
    entry = str(folder)
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        sys.path.remove(entry)


def _source_file(module: str, folder: Path) -> Path:
    stem = folder.joinpath(*module.split("."))
    for path in (stem.with_name(f"{stem.name}.py"), stem / "__init__.py"):
        if path.is_file():
            return path
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError) as error:
        hint = "check the name before the colon"
        raise FieldError("function", f"the module {module!r} cannot be found: {error}", hint=hint) from error
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        hint = f"put {module.replace('.', '/')}.py beside the job file, or install it"
        raise FieldError("function", f"there is no Python source of the module {module!r}", hint=hint)
    return Path(spec.origin)


def _top_level_names(tree: ast.Module) -> set[str]:
    """Return the names that a module may define; all that could be assigned anywhere at its top level."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
    return names
