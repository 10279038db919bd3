"""Builds pyfactory.native._ext from csrc; everything else is said in pyproject.toml."""

import os
import shlex
import shutil
import sysconfig
from pathlib import Path

from pybind11.setup_helpers import Pybind11Extension
from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

SOURCES = sorted(map(str, Path("csrc/bind").glob("*.cpp")))
HEADERS = sorted(map(str, Path("csrc").rglob("*.h*")))

# The same bits everywhere: no contraction into fused multiply-adds, no -ffast-math, no -march=native.
# That sqrt does not set errno changes its speed only.
FLAGS = ["-O3", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden"]


class BuildExtension(build_ext):
    """Says in one sentence what a machine lacks, before the compiler says it in a hundred lines."""

    def run(self) -> None:
        compiler = shlex.split(os.environ.get("CXX") or sysconfig.get_config_var("CXX") or "c++")[0]
        missing = []
        if shutil.which(compiler) is None:
            missing.append(f"a C++ compiler ({compiler})")
        if not any((Path(directory) / "Python.h").is_file() for directory in self.include_dirs):
            missing.append("the headers of Python (Python.h)")
        if missing:
            raise SystemExit(
                f"pyfactory is built from C++ source and this machine lacks {' and '.join(missing)}: install with "
                "`apt install g++ python3-dev` (Debian, Ubuntu) or `dnf install gcc-c++ python3-devel` (Fedora)."
            )
        super().run()


class BuildPython(build_py):
    """Ships the headers and kernels that NVRTC compiles at run time; an editable install reads csrc itself."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for part in ("core", "cuda"):
            target = Path(self.build_lib, "pyfactory/native/include", part)
            self.mkpath(str(target))
            for source in sorted(Path("csrc", part).glob("*.*")):
                self.copy_file(str(source), str(target))


setup(
    cmdclass={"build_ext": BuildExtension, "build_py": BuildPython},
    ext_modules=[
        Pybind11Extension(
            "pyfactory.native._ext",
            SOURCES,
            include_dirs=["csrc"],
            depends=HEADERS,
            cxx_std=20,
            extra_compile_args=FLAGS,
        )
    ],
)
