"""The architecture, held by reading the code: imports point down, and each outside thing has one door.

A new module must be entered here, which is the moment to ask whether it is in the right place.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "ingest"

# From the top down. A package stands for all of its modules.
LAYERS = {
    6: {"__main__", "cli", "dialectflags", "datasetcommands", "keycommands", "remotecommands", "remote", "remoteshow",
        "environment", "loadcommand", "localshow", "commandfiles"},
    5: {"service", "stopping", "localload", "measuring"},
    4: {"web"},
    3: {"poller", "chunkrun", "reader", "writer", "heartbeat", "janitor", "worker", "work", "leases", "order",
        "wholefile", "lanes", "tuner"},
    2: {"receiving", "resumable", "held", "holding", "follower", "finishing", "uploadrows", "sources", "admission", "upload",
        "uploadjob", "cutter", "tableend", "intake",
        "jobs", "jobviews", "queue", "ledger", "loading", "datasets", "targets", "keys", "storage", "objects", "objectkeys", "spool",
        "events", "announcing", "rejects",
        "rejectcsv", "retrying", "idempotency", "packing", "watching", "statistics", "control", "census"},
    1: {"database", "statements", "datasetfiles", "logs", "memory", "client", "metrics", "assets"},
    0: {
        "definitions", "detecting",
        "caller", "apikey", "session", "job", "spec", "budget", "formats", "formula", "chunk", "batch", "reject",
        "accounts", "climbing", "throughput", "dialect", "dialectoptions", "encodings", "header", "opening", "splitter", "bits", "settings",
        "variables", "errors", "reading",
        "compression", "gathering", "unpacking", "digests", "uploadoptions",
    },
}  # fmt: skip
LAYER_OF = {name: layer for layer, names in LAYERS.items() for name in names}

# Doors: who alone may import these, or touch the thing at all.
ASYNCIO = {"asyncio", "asyncpg", "trio_asyncio"}
OUTSIDE_WORLD = {
    "trio", "asyncio", "socket", "subprocess", "threading", "time", "random", "logging", "structlog", "quart",
    "hypercorn", "psutil", "importlib", "shutil", "tempfile", "io",
}  # fmt: skip
MAY_READ_ENVIRONMENT = {"__main__", "cli", "environment"}
# loadcommand, commandfiles: the files a person names on the command line; environment: .env.
MAY_TOUCH_FILES = {
    "commandfiles",
    "loadcommand",
    "datasetcommands",
    "storage",
    "objects",
    "spool",
    "database",
    "statements",
    "datasetfiles",
    "memory",
    "assets",
}
FILE_MODULES = {"shutil", "tempfile", "fcntl", "glob", "mmap"}
FILE_CALLS = {
    "read_text", "read_bytes", "write_text", "write_bytes", "mkdir", "unlink", "rmdir", "iterdir", "rglob",
    "open_file", "listdir", "scandir", "makedirs", "fsync",
}  # fmt: skip


class Module:
    """One module of the package, parsed."""

    def __init__(self, path: Path) -> None:
        self.name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        self.part = self.name.split(".")[0]
        self.tree = ast.parse(path.read_text(encoding="utf-8"))

    def imports(self) -> Iterator[str]:
        """Dotted names of everything imported, wherever in the module."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.name} imports relatively: write the whole name"
                yield from (f"{node.module}.{alias.name}" for alias in node.names)

    def own_imports(self) -> set[str]:
        """Which parts of the package it imports."""
        names = (name.split(".") for name in self.imports())
        return {name[1] for name in names if name[0] == "ingest" and name[1] != "__version__"}

    def foreign_imports(self) -> set[str]:
        """Which packages of others it imports."""
        return {name.split(".")[0] for name in self.imports()} - {"ingest"}

    def calls(self) -> set[str]:
        """Names of functions and methods it calls."""
        functions = [node.func for node in ast.walk(self.tree) if isinstance(node, ast.Call)]
        return {f.attr if isinstance(f, ast.Attribute) else getattr(f, "id", "") for f in functions}

    def builtins_called(self) -> set[str]:
        """Names of functions it calls without a dot."""
        return {n.func.id for n in ast.walk(self.tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}

    def attributes(self) -> set[str]:
        """Every attribute of `os` it uses."""
        nodes = (node for node in ast.walk(self.tree) if isinstance(node, ast.Attribute))
        return {node.attr for node in nodes if isinstance(node.value, ast.Name) and node.value.id == "os"}


MODULES = [Module(path) for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]
every_module = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)


@every_module
def test_the_module_has_a_layer(module: Module) -> None:
    assert module.part in LAYER_OF, "enter the module in LAYERS"


@every_module
def test_imports_point_down(module: Module) -> None:
    layer = LAYER_OF.get(module.part, min(LAYERS))
    upward = {name for name in module.own_imports() if LAYER_OF.get(name, 0) > layer}
    assert not upward


@every_module
def test_web_and_actors_do_not_know_each_other(module: Module) -> None:
    if module.part == "web":
        assert not module.own_imports() & LAYERS[3]


@every_module
def test_the_client_knows_nothing_of_the_service_but_its_errors(module: Module) -> None:
    if module.part == "client":
        assert module.own_imports() <= {"client", "errors"}


@every_module
def test_only_database_crosses_into_asyncio(module: Module) -> None:
    if module.part != "database":
        assert not module.foreign_imports() & ASYNCIO


@every_module
def test_only_the_metrics_know_whom_they_are_for(module: Module) -> None:
    if module.name not in ("metrics", "web.metrics"):
        assert "prometheus_client" not in module.foreign_imports()


@every_module
def test_values_are_pure(module: Module) -> None:
    if module.part in LAYERS[0]:
        assert not module.foreign_imports() & OUTSIDE_WORLD


@every_module
def test_only_the_command_line_reads_the_environment(module: Module) -> None:
    if module.part not in MAY_READ_ENVIRONMENT:
        assert not module.attributes() & {"environ", "environb", "getenv", "putenv"}
        assert not {name for name in module.imports() if name.startswith(("os.environ", "os.getenv"))}


@every_module
def test_only_storage_and_its_like_touch_files(module: Module) -> None:
    if module.part not in MAY_TOUCH_FILES:
        assert not module.foreign_imports() & FILE_MODULES
        assert not module.calls() & FILE_CALLS
        assert "open" not in module.builtins_called()


def test_the_package_itself_imports_nothing_of_its_own() -> None:
    package = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    assert not [node for node in ast.walk(package) if isinstance(node, ast.Import | ast.ImportFrom)]
