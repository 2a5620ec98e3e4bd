"""Documentation out of source files: what counts, what does not, and that it is always the same."""

import dataclasses
import sys
from pathlib import Path

import pytest

from fednano.core.progress import Silent
from fednano.data import pydocs
from fednano.data.docstrings import FileJob, docstrings_of_file
from fednano.data.partition import Iid
from fednano.data.pydocs import PyDocs, find_package
from fednano.data.shards import Corpus

LONG = "explains at some length what it is for. " * 3

SOURCE = f'''"""The module {LONG}

    Indented in the file.
    """
import nothing_that_exists

class Thing:
    """The class {LONG}"""
    def method(self):
        """The method {LONG} Café \\ud800."""
        if True:
            async def inner():
                """The inner function {LONG}"""
    def short(self):
        """Too short."""

not_documentation = """A string {LONG}"""
call(not_documentation, """An argument {LONG}""")
add_newdoc("core", "compiled", """The compiled function {LONG}""")
thing = _add_docstr(thing, r"""The operator {LONG}""".format(**common))
add_newdoc("core", "Type", ("method", """The compiled method {LONG}"""))
'''


def extracted(tmp_path: Path, source: str | bytes, min_share: float = 0.0) -> list[str]:
    path = tmp_path / "module.py"
    path.write_bytes(source.encode() if isinstance(source, str) else source)
    return docstrings_of_file(FileJob(path, min_chars=100, min_share=min_share))


def data(root: Path, packages: list[str], **changed: object) -> PyDocs:
    made = PyDocs(
        root=str(root),
        packages=packages,
        min_chars=100,
        min_share=0.0,
        validation_fraction=0.1,
        workers=1,
        partition=Iid(),
    )
    return dataclasses.replace(made, **changed)  # type: ignore[arg-type]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two packages that are found by the import system and would fail if they were imported."""
    site = tmp_path / "site"
    for name in ("alpha_pkg", "beta_pkg"):
        (site / name / "tests").mkdir(parents=True)
        for module in ("__init__", "sub"):
            source = SOURCE.replace("The ", f"The {name} {module} ")
            (site / name / f"{module}.py").write_text(source, encoding="utf-8")
        (site / name / "tests" / "test_it.py").write_text(SOURCE, encoding="utf-8")
        info = site / f"{name}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(site))
    return site


def test_documentation_is_found_where_it_stands(tmp_path: Path) -> None:
    found = extracted(tmp_path, SOURCE)
    subjects = [text.split(" explains")[0] for text in found]
    assert subjects == [
        "The module",
        "The class",
        "The method",
        "The inner function",
        "The compiled function",
        "The operator",
        "The compiled method",
    ]
    assert found[0].endswith("\n\nIndented in the file.")
    assert found[2].endswith("Café .")


@pytest.mark.parametrize("source", [b"def (:\n'''" + b"x" * 200 + b"'''", b'"""' + b"\xff" * 200 + b'"""', b"\0" * 300])
def test_what_is_not_python_is_left_out(tmp_path: Path, source: bytes) -> None:
    assert extracted(tmp_path, source) == []


def test_a_file_with_little_documentation_is_not_parsed(tmp_path: Path) -> None:
    source = SOURCE + "x = 1\n" * 5000
    assert extracted(tmp_path, source, min_share=0.01) != []
    assert extracted(tmp_path, source, min_share=0.5) == []


def test_packages_become_sources_without_being_imported(tmp_path: Path, installed: Path) -> None:
    corpus = data(tmp_path, ["alpha_pkg", "beta_pkg", "not_there_at_all"]).ensure(Silent())
    assert corpus.source_names == ("alpha_pkg", "beta_pkg")
    assert corpus.train_rows + corpus.validation_rows == 2 * 2 * 7
    assert corpus.manifest.settings["packages"] == {"alpha_pkg": "1.2", "beta_pkg": "1.2"}
    assert not {"alpha_pkg", "beta_pkg"} & set(sys.modules)


def test_two_workers_write_the_same_bytes(tmp_path: Path, installed: Path) -> None:
    one = data(tmp_path / "one", ["alpha_pkg", "beta_pkg"]).ensure(Silent())
    two = data(tmp_path / "two", ["alpha_pkg", "beta_pkg"], workers=2).ensure(Silent())
    assert one.folder.name == two.folder.name
    for file in one.manifest.files:
        assert (one.folder / file.name).read_bytes() == (two.folder / file.name).read_bytes()


def test_it_is_made_once_and_anew_for_another_version(
    tmp_path: Path, installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = data(tmp_path, ["alpha_pkg"]).ensure(Silent())
    monkeypatch.setattr(pydocs, "write_corpus", lambda *args, **kwargs: pytest.fail("written again"))
    assert data(tmp_path, ["alpha_pkg"]).ensure(Silent()).folder == first.folder
    monkeypatch.undo()
    monkeypatch.syspath_prepend(str(installed))
    metadata = installed / "alpha_pkg-1.2.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("1.2", "1.3"))
    assert data(tmp_path, ["alpha_pkg"]).ensure(Silent()).folder != first.folder


def test_real_packages_hold_real_prose(tmp_path: Path) -> None:
    corpus: Corpus = data(tmp_path, ["networkx", "numpy"], min_chars=300, min_share=0.15).ensure(Silent())
    assert corpus.source_names == ("networkx", "numpy")
    assert corpus.train_bytes > 3_000_000
    texts = corpus.texts(range(corpus.train_rows)).to_pylist()
    assert sum("the" in text.split() for text in texts) > 0.8 * len(texts)
    assert any("Dijkstra" in text for text in texts)
    assert any("ndarray.transpose" in text for text in texts), "from numpy's add_newdoc"


def test_the_standard_library_is_a_package() -> None:
    package = find_package("python")
    assert package is not None
    files = package.files()
    assert package.folder / "argparse.py" in files
    assert not any("site-packages" in path.parts[len(package.folder.parts) :] for path in files)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"packages": "python"}, "data.packages must be a list of names, got 'python'; set "),
        ({"packages": []}, r"data.packages must be a list of names, got \[\]; set "),
        ({"min_chars": 0}, "data.min_chars must be a whole number >= 1, got 0; "),
        ({"min_share": 1.5}, "data.min_share must be >= 0 and <= 1, got 1.5; set, "),
        ({"validation_fraction": 0.0}, "data.validation_fraction must be > 0 and < 1, got 0.0; set, "),
        ({"workers": True}, "data.workers must be a whole number >= 1, got True; "),
        ({"root": ""}, "data.root must be a non-empty string, got ''; "),
    ],
)
def test_settings_are_checked(tmp_path: Path, changed: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=f"^{says}"):
        dataclasses.replace(data(tmp_path, ["python"]), **changed)  # type: ignore[arg-type]


def test_checks_look_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must name installed packages, got .*; add python"):
        data(tmp_path, ["not_there_at_all"]).check()
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"^data.root=.* lies under .*file, which is a file; "):
        data(tmp_path / "file" / "deeper", ["python"]).check()
    data(tmp_path / "new", ["python"]).check()
    assert not (tmp_path / "new").exists()
