"""The shape of the code, read off its syntax trees: imports, lengths, records. `make map` prints it."""

import ast
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "fednano"
POSITIONAL = 4  # fields that a record may take by position


@dataclass(frozen=True)
class Module:
    """One source file.

    Args:
        name: dotted, without `fednano.`; a package is called by its folder.
        path: below the package.
        tree: its syntax tree.
        lines: how many it has.
        imports: dotted names of everything it imports, late imports and those for types included.
    """

    name: str
    path: Path
    tree: ast.Module
    lines: int
    imports: tuple[str, ...]

    @property
    def room(self) -> str:
        """The folder, or the module itself where it lies directly in the package."""
        return self.name.split(".", maxsplit=1)[0]


@cache
def modules() -> dict[str, Module]:
    """Every module of fednano by its name; the package itself is left out."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE)
        name = ".".join(relative.with_suffix("").parts).removesuffix("__init__").rstrip(".")
        if name:
            text = path.read_text(encoding="utf-8")
            tree = ast.parse(text)
            found[name] = Module(name, relative, tree, text.count("\n"), tuple(_imports(tree)))
    return found


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def edges() -> dict[str, set[str]]:
    """For each module the modules of fednano that it imports."""
    known = modules()
    made: dict[str, set[str]] = {name: set() for name in known}
    for name, module in known.items():
        for imported in module.imports:
            if imported.startswith("fednano."):
                target = imported.removeprefix("fednano.")
                made[name].add(target if target in known else target.rpartition(".")[0])
    return {name: {target for target in targets if target in known} for name, targets in made.items()}


def circles() -> list[list[str]]:
    """Groups of modules that import each other, directly or through others (strongly connected components)."""
    graph = edges()
    reach = {name: _reachable(name, graph) for name in graph}
    groups = {frozenset({name, *(o for o in reach[name] if name in reach[o])}) for name in graph}
    return sorted(sorted(group) for group in groups if len(group) > 1)


def _reachable(start: str, graph: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    todo = [start]
    while todo:
        for target in graph[todo.pop()] - seen:
            seen.add(target)
            todo.append(target)
    return seen


def positional_records() -> list[str]:
    """Records of more than four fields that can be made by position."""
    return [
        f"{module.path}:{node.lineno} {node.name}"
        for module in modules().values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef) and _is_positional(node)
    ]


def _is_positional(node: ast.ClassDef) -> bool:
    decorators = [ast.unparse(each) for each in node.decorator_list]
    dataclass_ = next((each for each in decorators if each.partition("(")[0].endswith("dataclass")), None)
    named_tuple = any(ast.unparse(base).endswith("NamedTuple") for base in node.bases)
    if named_tuple:
        return len(_fields(node)) > POSITIONAL
    return dataclass_ is not None and "kw_only=True" not in dataclass_ and len(_fields(node)) > POSITIONAL


def _fields(node: ast.ClassDef) -> list[ast.AnnAssign]:
    return [
        each
        for each in node.body
        if isinstance(each, ast.AnnAssign)
        and not ast.unparse(each.annotation).startswith("ClassVar")
        and not (each.value is not None and "init=False" in ast.unparse(each.value))
    ]


def class_names() -> dict[str, list[str]]:
    """Where each class, and each capitalised name of a type, is defined."""
    found: dict[str, list[str]] = {}
    for module in modules().values():
        for node in module.tree.body:
            names = [node.name] if isinstance(node, ast.ClassDef) else []
            if isinstance(node, ast.Assign):
                names = [each.id for each in node.targets if isinstance(each, ast.Name)]
            for name in names:
                if name.lstrip("_")[:1].isupper() and not name.isupper():
                    found.setdefault(name, []).append(module.name)
    return found


def functions() -> list[tuple[int, str]]:
    """(lines, where) of every function, the longest first."""
    return sorted(
        (
            (node.end_lineno or node.lineno) - node.lineno + 1,
            f"{module.path}:{node.lineno} {node.name}",
        )
        for module in modules().values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )[::-1]


def main() -> None:
    folders = Counter(str(module.path.parent) for module in modules().values())
    print("files per folder")
    for folder, count in sorted(folders.items()):
        print(f"  {count:3d}  fednano/{'' if folder == '.' else folder}")
    longest = max(modules().values(), key=lambda module: module.lines)
    lines, where = functions()[0]
    print(f"longest file      {longest.lines} lines  fednano/{longest.path}")
    print(f"longest function  {lines} lines  fednano/{where}")
    _print(f"records with more than {POSITIONAL} positional fields", positional_records())
    _print("import circles", [" ↔ ".join(group) for group in circles()])


def _print(title: str, entries: Sequence[str]) -> None:
    print(f"{title}: {len(entries) or 'none'}")
    for entry in entries:
        print(f"  {entry}")


if __name__ == "__main__":
    main()
