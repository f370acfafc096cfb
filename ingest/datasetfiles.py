"""The files of dataset definitions: those the project ships, and those of a folder of one's own. Read at the start."""

from __future__ import annotations

from pathlib import Path

from ingest.definitions.detection import AUTO
from ingest.definitions.model import Definition
from ingest.definitions.text import DefinitionError, read_definition
from ingest.errors import SettingsError
from ingest.statements import sql_folder

MOST_BYTES = 1024 * 1024
RESERVED = {AUTO: "it stands for the dataset that fits the header"}


def known_definitions(folder: Path | None) -> tuple[Definition, ...]:
    """Return the shipped definitions and those of the folder, which win over shipped ones of the same name.

    Raises SettingsError with one line when the folder cannot be read, DefinitionError when a file in it is wrong.
    """
    shipped = definitions_in(sql_folder() / "datasets")
    own = {} if folder is None else definitions_in(folder)
    return tuple((shipped | own).values())


def definitions_in(folder: Path) -> dict[str, Definition]:
    """Return the definitions of all files NAME.toml in a folder, by name. Raises SettingsError, DefinitionError."""
    if not folder.is_dir():
        raise SettingsError(f"INGEST_DATASETS={folder}: must be a folder with dataset definitions")
    found: dict[str, Definition] = {}
    for path in sorted(folder.glob("*.toml")):
        definition = read_definition_file(path)
        if definition.name in found:
            raise DefinitionError([f"{path}: name: another file of the folder defines {definition.name!r} too"])
        found[definition.name] = definition
    return found


def read_definition_file(path: Path) -> Definition:
    """Return the definition in a file. Raises DefinitionError that names file, line and key of what is wrong."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DefinitionError([f"{path}: the file is larger than {MOST_BYTES} bytes"])
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise DefinitionError([f"{path}: the file is not UTF-8 (byte {error.start})"]) from None
    except OSError as error:
        raise DefinitionError([f"{path}: the file cannot be read: {error.strerror}"]) from None
    definition = read_definition(text, str(path))
    if definition.name in RESERVED:
        raise DefinitionError([f"{path}: name: {definition.name!r} is reserved: {RESERVED[definition.name]}"])
    return definition
