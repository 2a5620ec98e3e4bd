"""The bundle: a folder of wheels for machines without a network, and one archive of it that is small to carry.

    python bundle/make.py --python 3.12 [--ray] [--wandb] [--out FOLDER]

Run in a git checkout, with the network. The bundle holds fednano and whatever it needs besides torch, for Linux x86-64.
"""

import argparse
import hashlib
import lzma
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parent.parent
TRAVELLING = ("install.sh", "gpu.sh", "plan.py", "README.md")
SOURCES = ("app", "conf", "fednano", "tests", "pyproject.toml", "README.md", "LICENSE")
TESTS = ("hypothesis", "pytest", "pytest-xdist")
GLIBC = "manylinux_2_28"  # the oldest system that the wheels of pyarrow and cryptography run on
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_24", "manylinux_2_17", "manylinux2014", "manylinux_2_12",
             "manylinux2010", "manylinux_2_5", "manylinux1", "linux")  # fmt: skip
SOURCE_ONLY = ("antlr4-python3-runtime",)  # published without a wheel, and pure Python
# Left out: torch with what it brings along, and what Flower asks for but works without. uv would install the
# dependencies of apps from the network, and the others make an HTTP server faster.
TORCHS = ("torch", "numpy")
SPARED = ("uv", "uvloop", "httptools", "watchfiles")
DICTIONARY = 128 << 20  # bytes; also the memory that unpacking takes


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bundle", description="Write wheels for a machine without a network.")
    parser.add_argument("--python", default="3.12", help="version of that machine's Python, such as 3.12")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder for the bundle")
    parser.add_argument("--ray", action="store_true", help="add Ray, for runtime=simulation")
    parser.add_argument("--wandb", action="store_true", help="add W&B, for logger=wandb")
    parser.add_argument("--native", action="store_true", help="build for machines with a glibc like this one's")
    parser.add_argument("--no-archive", action="store_true", help="write the folder only")
    arguments = parser.parse_args()
    try:
        make(arguments)
    except RefusedError as error:
        print(f"bundle: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        print(f"bundle: {Path(error.cmd[0]).name} failed; read its lines above, and check the network", file=sys.stderr)
        return 1
    return 0


class RefusedError(ValueError):
    """What the user asked for cannot be made; the text is one line."""


def make(arguments: argparse.Namespace) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    check(arguments.python, project["requires-python"])
    tag = f"cp{arguments.python.replace('.', '')}"
    folder = arguments.out.absolute() / f"fednano-bundle-{project['version']}-{tag}-linux_x86_64"
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    wheels = partial / "wheels"
    wheels.mkdir(parents=True)
    try:
        print("bundle: choosing versions", flush=True)
        requirements = resolved(partial / "requirements.txt", arguments)
        print(f"bundle: downloading {len(requirements)} wheels", flush=True)
        download(requirements, arguments.python, tag, wheels)
        print("bundle: building fednano and its Rust core", flush=True)
        build(wheels, arguments.native)
        for name in (*TRAVELLING, *(["../LICENSE"])):
            shutil.copy(ROOT / "bundle" / name, partial)
        (partial / "BUNDLE").write_text(f"{project['version']} {arguments.python}\n", encoding="utf-8")
        copy_sources(partial / "source")
        tell_sizes(wheels)
        for wheel in wheels.iterdir():
            store(wheel)
        write_sums(partial)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    print(f"bundle: {folder}")
    if not arguments.no_archive:
        print("bundle: packing, which takes some minutes", flush=True)
        archive = pack(folder)
        print(f"bundle: {archive} ({archive.stat().st_size / 1e6:.1f} MB)")


def check(python: str, allowed: str) -> None:
    """Raise RefusedError unless a bundle for this Python can be made here."""
    first, last = (int(bound) for bound in re.findall(r"3\.(\d+)", allowed))
    known = [f"3.{minor}" for minor in range(first, last)]
    if python not in known:
        raise RefusedError(f"PYTHON must be one of {', '.join(known)}, got {python}; give that of the other machine")
    if subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, check=False).returncode:
        raise RefusedError(f"the bundle must be made in a git checkout, got {ROOT}; clone the project")
    if not shutil.which("uv"):
        raise RefusedError("uv must be installed; install it with: pip install uv")
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False).returncode:
        raise RefusedError(f"pip must be installed for {sys.executable}; use a Python that has it")


def resolved(path: Path, arguments: argparse.Namespace) -> list[str]:
    """NAME==VERSION of every package to download; the versions are those that a checkout is tested with."""
    tests, left_out = path.with_name("tests.txt"), path.with_name("left-out.txt")
    tests.write_text("\n".join(TESTS), encoding="utf-8")
    spared = [*TORCHS, *SPARED, *(() if arguments.wandb else ("wandb",))]
    left_out.write_text("\n".join(spared), encoding="utf-8")
    extra = ["--extra", "simulation"] if arguments.ray else []
    run(
        *("uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "pyproject.toml", tests, *extra),
        *("--excludes", left_out, "--no-emit-package", "fednano-rustbpe", "--output-file", path),
        *("--python-version", arguments.python, "--python-platform", f"x86_64-{GLIBC}"),
    )
    requirements = path.read_text(encoding="utf-8").split()
    for used in (path, tests, left_out):
        used.unlink()
    return requirements


def download(requirements: Iterable[str], python: str, tag: str, wheels: Path) -> None:
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    source_only = [name for name in requirements if name.partition("==")[0] in SOURCE_ONLY]
    platforms = [word for name in PLATFORMS for word in ("--platform", f"{name}_x86_64")]
    kinds = [word for name in (tag, "abi3", "none") for word in ("--abi", name)]
    target = ("--python-version", python, "--implementation", "cp", *kinds, *platforms)
    there = [name for name in requirements if name not in source_only]
    run(*pip, "download", "--no-deps", "--only-binary=:all:", *target, "--dest", wheels, *there)
    run(*pip, "wheel", "--no-deps", "--wheel-dir", wheels, *source_only)


def build(wheels: Path, native: bool) -> None:
    """Build our own two wheels. One of the Rust core serves every Python; zig links it for older systems."""
    run("uv", "build", "--quiet", "--wheel", "--out-dir", wheels)
    if native:
        run("uv", "build", "--quiet", "--wheel", "--package", "fednano-rustbpe", "--out-dir", wheels)
    else:
        with_zig = ("--zig", "--compatibility", GLIBC, "--release", "--strip", "--out", wheels)
        maturin = ("uvx", "--quiet", "--from", "maturin[zig]>=1.7,<2", "maturin", "build", "--quiet")
        run(*maturin, *with_zig, cwd=ROOT / "rustbpe")
    for stray in wheels.glob("[!a-zA-Z]*"):  # uv writes a .gitignore
        stray.unlink()


def copy_sources(target: Path) -> None:
    """Copy what the checks in tests/gpu read, as it is in the working tree."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *SOURCES]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)


def store(wheel: Path) -> None:
    """Rewrite a wheel with the same files, uncompressed: the archive then compresses them together, and better."""
    stored = wheel.with_suffix(".stored")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(stored, "w") as new:
        for entry in old.infolist():
            plain = zipfile.ZipInfo(entry.filename, entry.date_time)
            plain.external_attr = entry.external_attr  # holds permissions
            new.writestr(plain, old.read(entry))
    stored.replace(wheel)


def write_sums(folder: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n" for path in files]
    (folder / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")


def tell_sizes(wheels: Path) -> None:
    sizes = sorted(((path.stat().st_size, path.name) for path in wheels.iterdir()), reverse=True)
    print(f"bundle: {len(sizes)} wheels, {sum(size for size, _ in sizes) / 1e6:.1f} MB as published; the largest:")
    for size, name in sizes[:8]:
        print(f"bundle: {size / 1e6:6.1f} MB  {name.split('-')[0]}")


def pack(folder: Path) -> Path:
    """FOLDER.tar.xz, compressed as a whole, with the filter for x86 machine code. Needs a gigabyte of memory."""
    archive = folder.with_name(folder.name + ".tar.xz")
    filters = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": DICTIONARY}]
    partial = archive.with_suffix(".partial")
    with lzma.open(partial, "wb", filters=filters) as compressed, tarfile.open(fileobj=compressed, mode="w") as tar:
        tar.add(folder, folder.name, filter=anonymous)
    partial.replace(archive)
    return archive


def anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def run(*words: str | Path, cwd: Path = ROOT) -> None:
    subprocess.run([str(word) for word in words], cwd=cwd, check=True)


if __name__ == "__main__":
    sys.exit(main())
