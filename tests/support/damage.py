"""Damage to files, as a failing disk or a careless hand does it, and files of others that appear in any folder."""

import json
from pathlib import Path


def flip(path: Path, at: int | None = None, bit: int = 0) -> None:
    """Flip one bit of a file; by default in its middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if at is None else at] ^= 1 << bit
    path.write_bytes(data)


def add_strays(folder: Path) -> dict[str, bytes | None]:
    """Add what desktops, network file systems and people leave in `folder`; returns `strays` of them."""
    for name in (".DS_Store", "._x", ".nfs0001", "Thumbs.db", "notes.txt"):
        (folder / name).write_bytes(b"not fednano's")
    for name in ("lost+found", "round_zzz", "round_12", ".hidden"):
        (folder / name).mkdir()
        (folder / name / "kept").write_bytes(b"not fednano's")
    (folder / "round_dangling").symlink_to(folder / "nowhere")
    (folder / "round_999998").symlink_to(folder / "nowhere")
    (folder / "round_999997").write_bytes(b"a file")
    return strays(folder)


def strays(folder: Path) -> dict[str, bytes | None]:
    """The content of all files in `folder` that `add_strays` made; None for a link."""
    return {
        str(path.relative_to(folder)): None if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or (path.is_file() and path.read_bytes() in (b"not fednano's", b"a file"))
    }


def as_of_an_earlier_version(checkpoint: Path) -> None:
    """Take the digests and the number of the format from a checkpoint."""
    (checkpoint / "manifest.json").unlink()
    state = json.loads((checkpoint / "state.json").read_text())
    for key in ("format", "config_sha256"):
        del state[key]
    del state["tape"]["whole_sha256"]
    (checkpoint / "state.json").write_text(json.dumps(state))
