"""Quoting: what is quoted is read back unchanged, whatever is in it."""

import random

import pytest
from flwr.common.config import parse_config_args
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from fednano.config.compose import compose_config
from fednano.config.quoting import quoted, toml_quoted

PIECES = ["${", "${a}", *"a '\"\\}$[]{,=\n\tü:~#%"]


def _texts(count: int) -> list[str]:
    drawn = random.Random(0)
    return ["".join(drawn.choices(PIECES, k=drawn.randrange(8))) for _ in range(count)]


def test_hydra_reads_back_what_was_quoted() -> None:
    parser = OverridesParser.create()
    for text in _texts(400):
        value = parser.parse_overrides([f"key={quoted(text)}"])[0].value()
        assert OmegaConf.create({"key": value, "a": 1}).key == text


def test_flower_reads_back_what_was_quoted() -> None:
    for text in _texts(400):
        assert parse_config_args([f"name={toml_quoted('x')} socket={toml_quoted(text)}"]) == {
            "name": "x",
            "socket": text,
        }


@pytest.mark.parametrize("folder", ['/O\'Neil/"runs"', "/a\nb, c\\", "/ü/${x}/[1]={}"])
def test_a_nodes_folder_may_have_any_name(folder: str) -> None:
    cfg = compose_config([f"folder={quoted(folder)}", "name='client_0'"], "node")
    assert cfg.folder == folder
