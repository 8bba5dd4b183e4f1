"""The class path of a native broker: resolved by Maven once, kept in a cache folder until pom.xml changes."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

POM: Final = Path(__file__).with_name("pom.xml")
_MAVEN_SECONDS: Final = 600
"""A first resolution fetches about 130 MB."""


class NoNativeKafka(Exception):
    """A native broker cannot be had on this machine; the message says what is missing."""


def class_path(cache: Path | None = None) -> str:
    """Return the class path, resolving it with `mvn` when the cache has none for this pom.xml.

    Raises NoNativeKafka without a Java or Maven on the path, or when the artifacts cannot be fetched.
    """
    if shutil.which("java") is None:
        raise NoNativeKafka("there is no java on the path")
    folder = cache if cache is not None else Path.home() / ".cache" / "compute-commons"
    kept = folder / f"kafka-{hashlib.sha256(POM.read_bytes()).hexdigest()[:16]}.classpath"
    if kept.exists() and all(Path(jar).exists() for jar in kept.read_text().split(os.pathsep)):
        return kept.read_text()
    return _resolved(folder, kept)


def _resolved(folder: Path, kept: Path) -> str:
    maven = shutil.which("mvn")
    if maven is None:
        raise NoNativeKafka("there is no mvn on the path")
    folder.mkdir(parents=True, exist_ok=True)
    fresh = kept.with_suffix(f".{os.getpid()}")
    goal = "dependency:build-classpath"
    command = [maven, "--quiet", "--batch-mode", "--file", str(POM), goal, f"-Dmdep.outputFile={fresh}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_MAVEN_SECONDS, check=False)  # noqa: S603 - a program of the path
    except subprocess.TimeoutExpired as error:
        raise NoNativeKafka(f"mvn was not done after {_MAVEN_SECONDS} s") from error
    if done.returncode or not fresh.exists():
        raise NoNativeKafka(f"mvn cannot resolve {POM}: {done.stdout.strip()[-500:]}")
    fresh.replace(kept)  # whole or not at all: another process may be reading
    return kept.read_text()
