"""Every choice of `data=` can be made from its file as it stands."""

from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from support.paths import CONF

from fednano.data.partition import Iid

FILES = sorted((CONF / "data").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_choice_can_be_made(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDNANO_DATA", str(tmp_path / "root"))
    config = OmegaConf.load(file)
    config.partition = OmegaConf.load(file.parent.parent / "partition" / "iid.yaml")
    if OmegaConf.is_missing(config, "path"):
        (tmp_path / "own").mkdir()
        config.path = str(tmp_path / "own")
    data = instantiate(config)
    assert data.partition == Iid()
    assert data.root == str(tmp_path / "root")
    if "path" in config:
        with pytest.raises(ValueError, match=r"^data.path must hold files matching"):
            data.check()
    else:
        data.check()
    assert not (tmp_path / "root").exists()


def test_all_choices_are_there() -> None:
    assert [file.stem for file in FILES] == ["climbmix", "fineweb_edu", "parquet", "pydocs", "text"]
