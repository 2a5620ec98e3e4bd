"""The templates of the pages, and the files that they are served with."""

from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

PACKAGE, FOLDER = "fednano.report.web", "templates"


@cache
def template(name: str) -> Template:
    """A template, compiled once per process. It escapes what is put into it, and refuses names that it is not given."""
    return _environment().get_template(name)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader(PACKAGE, FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def static(name: str) -> bytes:
    """The bytes of a style sheet or a script beside the templates."""
    return (files(PACKAGE) / FOLDER / name).read_bytes()
