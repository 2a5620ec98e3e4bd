"""The digest of a recorded configuration: any change that could change the run changes it."""

from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from fednano.config.recorded import config_sha256, recorded_sha256

CONFIG = {
    "name": "x",
    "rounds": 3,
    "checkpoint_keep": 2,
    "data": {"root": "/a", "path": "/b", "shards": 8, "partition": None},
    "optim": {"lr": 0.02, "betas": [0.9, 0.95]},
    "logger": {"project": "p"},
}


def test_only_free_keys_leave_the_digest_alone() -> None:
    digest = config_sha256(OmegaConf.create(CONFIG))
    for key, value in (("checkpoint_keep", 5), ("logger.project", "q"), ("data.root", "/c"), ("data.path", "/d")):
        changed = OmegaConf.create(CONFIG)
        OmegaConf.update(changed, key, value)
        assert config_sha256(changed) == digest, key
    for key, value in (("rounds", 4), ("data.shards", 9), ("optim.lr", 0.03), ("optim.betas", [0.9, 0.96])):
        changed = OmegaConf.create(CONFIG)
        OmegaConf.update(changed, key, value)
        assert config_sha256(changed) != digest, key


def test_what_is_written_has_the_digest_of_what_was_meant(tmp_path: Path) -> None:
    assert recorded_sha256(tmp_path) == ""
    OmegaConf.save(OmegaConf.create(CONFIG), tmp_path / "config.yaml")
    assert recorded_sha256(tmp_path) == config_sha256(OmegaConf.create(CONFIG))


def test_no_bit_flips_unseen(tmp_path: Path) -> None:
    """The YAML reader refuses the flip, or the digest changes, unless the file still says the same."""
    path = tmp_path / "config.yaml"
    config = OmegaConf.create({key: CONFIG[key] for key in ("name", "rounds", "optim")})
    OmegaConf.save(config, path)
    data, digest = path.read_bytes(), recorded_sha256(tmp_path)
    same = 0
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 7]) + data[at + 1 :])
        try:
            if recorded_sha256(tmp_path) == digest:
                same += 1
                assert OmegaConf.load(path) == config
        except (YAMLError, OmegaConfBaseException, UnicodeDecodeError):
            pass
    assert same < len(data) / 10
