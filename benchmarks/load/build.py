"""Compiles the two C programs of the load into ``build/bench``; again only when the source is newer."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent.parent
BUILD: Final = ROOT / "build" / "bench"
FLAGS: Final = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror")


class Missing(Exception):
    """This machine lacks a program. The message says which, and what to install."""


def compile_program(name: str, directory: Path = BUILD) -> Path:
    """The program made of ``benchmarks/load/NAME.c``.

    :raises Missing: there is no C compiler.
    :raises subprocess.CalledProcessError: it does not compile.
    """
    source, program = Path(__file__).with_name(f"{name}.c"), directory / name
    if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
        return program
    compiler = shutil.which("cc")
    if compiler is None:
        raise Missing("no C compiler (cc); on Debian and Ubuntu: apt-get install gcc libc6-dev")
    directory.mkdir(parents=True, exist_ok=True)
    subprocess.run([compiler, *FLAGS, "-o", str(program), str(source)], check=True)
    return program
