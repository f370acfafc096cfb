"""The types that the page's modules state in their comments, judged by the TypeScript compiler."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from ingest.assets import FOLDER
from tests.needed import missing

# Far above what anything takes; npm may have to fetch.
PATIENCE_S = 240
OPTIONS = [
    "--noEmit",
    "--allowJs",
    "--checkJs",
    "--target",
    "es2022",
    "--module",
    "esnext",
    "--lib",
    "es2023,dom,dom.iterable",
]


def test_the_modules_keep_to_their_types(tmp_path: Path) -> None:
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        missing("node and npm are not installed")
    shutil.copy(Path(__file__).parent / "package.json", tmp_path)
    install = [npm, "install", "--no-audit", "--no-fund", "--no-save", "--ignore-scripts"]
    try:
        done = subprocess.run(install, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("npm could not install the compiler in time")
    if done.returncode:
        pytest.skip(f"npm cannot install the compiler: {done.stderr.strip()[-300:]}")
    command = [tmp_path / "node_modules" / ".bin" / "tsc", *OPTIONS, "--moduleResolution", "bundler"]
    found = subprocess.run(
        [*command, *sorted(FOLDER.glob("*.js"))], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert found.returncode == 0, found.stdout
