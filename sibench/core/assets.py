"""Files that ship with the package, in `sibench/assets/<folder>/`, each checked against a manifest of sha256 hashes."""

import hashlib
from pathlib import Path

import sibench
from sibench.core import files
from sibench.core.errors import UserError

ASSETS = Path(sibench.__file__).parent / "assets"
MANIFEST = "manifest.json"
"""Maps every shipped file of a folder to its sha256."""


def read(file: Path) -> bytes:
    """Return the content of a shipped file; raise `UserError` if it differs from the manifest."""
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != _manifest(file.parent).get(file.name):
        raise UserError(f"{file} differs from its sha256 in {MANIFEST}; reinstall the package, or ship it again")
    return content


def ship(folder: str, *sources: Path) -> None:
    """Copy files into an asset folder. The manifest is written last, so an interrupted copy is noticed."""
    hashes = _manifest(ASSETS / folder)
    for source in sources:
        content = source.read_bytes()
        files.write_atomic(ASSETS / folder / source.name, content)
        hashes[source.name] = hashlib.sha256(content).hexdigest()
    files.write_atomic(ASSETS / folder / MANIFEST, files.to_json(dict(sorted(hashes.items()))))


def _manifest(folder: Path) -> dict[str, str]:
    file = folder / MANIFEST
    return dict(files.from_json(file.read_bytes())) if file.exists() else {}
