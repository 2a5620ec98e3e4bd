"""The logger group: several choices at once, and configurations of earlier versions and of a user's own."""

from typing import Any

import pytest
from omegaconf import OmegaConf

from fednano.config.build import build_groups
from fednano.config.compose import compose_config
from fednano.config.errors import ConfigError
from fednano.config.loggers import check_all_there, choices_in
from fednano.experiment.groups import Groups
from fednano.report.metrics import Csv
from fednano.report.sinks import Local
from fednano.report.tracking.wandb_sink import Wandb

WANDB = {"_target_": "fednano.report.wandb_sink.Wandb", "project": "p", "mode": "auto", "name": None, "group": None,
         "tags": []}  # fmt: skip
OWN = {"_target_": "mine.Logger", "project": "mine"}
CSV = {"_target_": "fednano.report.metrics.Csv"}


def built(node: Any = None, *overrides: str) -> dict[str, Any]:
    cfg = compose_config([*overrides])
    if node is not None:
        cfg.logger = node
    found: dict[str, Any] = build_groups(cfg, ["logger"])["logger"]
    return found


def test_one_choice_or_several_have_their_keys_below_their_names() -> None:
    assert built() == {"local": Local()}
    found = built(None, "logger=[local,wandb,csv]", "logger.wandb.project=p")
    assert {name: type(logger) for name, logger in found.items()} == {"local": Local, "wandb": Wandb, "csv": Csv}
    assert found["wandb"].project == "p"


def test_a_recorded_configuration_of_earlier_versions_is_built() -> None:
    assert built(WANDB) == {"": Wandb(project="p", mode="auto", name=None, group=None, tags=[])}
    assert built({"_target_": "fednano.report.sinks.Local"}) == {"": Local()}


@pytest.mark.parametrize("choice", ["wandb", "[local,wandb]", "[wandb, csv]"])
def test_keys_of_earlier_versions_still_work_where_wandb_is_chosen(choice: str) -> None:
    cfg = compose_config([f"logger={choice}", "logger.project=old", "logger.tags=[a,b]", "++logger.group=g"])
    assert (cfg.logger.wandb.project, cfg.logger.wandb.tags, cfg.logger.wandb.group) == ("old", ["a", "b"], "g")
    assert "project" not in cfg.logger


def test_elsewhere_a_key_of_an_earlier_version_is_told_where_it_is() -> None:
    with pytest.raises(
        ConfigError, match=r"logger\.project=x sets a key that is logger\.wandb\.project now; choose lo"
    ):
        compose_config(["logger.project=x"])


def test_keys_of_an_earlier_version_in_a_file_of_choices_are_the_wandb_loggers() -> None:
    assert built({"wandb": WANDB, "project": "q"})["wandb"].project == "q"
    with pytest.raises(ValueError, match=r"logger\.project=q sets a key that does not exist; .*logger\.wandb\.project"):
        built({"csv": CSV, "project": "q"})
    with pytest.raises(ValueError, match=r"logger\.x=1 sets a key that does not exist; .* as logger\.NAME\.x"):
        built({"wandb": WANDB, "x": 1})


def test_a_logger_of_a_users_own_may_have_its_keys_in_the_group_itself() -> None:
    assert choices_in(OWN) == {"": OWN}
    assert choices_in({**OWN, "csv": CSV}) == {"": OWN, "csv": CSV}
    assert choices_in({"mine": OWN, "csv": CSV}) == {"mine": OWN, "csv": CSV}
    helper = {**OWN, "helper": {"_target_": "mine.Helper"}}
    assert choices_in(helper) == {"": helper}


def test_choices_that_would_replace_each_other_are_refused() -> None:
    check_all_there({**OWN, "csv": CSV}, ["one", "csv"])
    with pytest.raises(ValueError, match=r"logger=\[one,two,csv\] .* got one and two without; in one\.yaml, put all"):
        check_all_there({**OWN, "csv": CSV}, ["one", "two", "csv"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["logger=nope"], "logger=nope does not exist; use one of "),
        (["logger=[csv,nope]"], "logger=nope does not exist; use one of "),
        (["logger.wandb.mode=x"], "logger.wandb.mode=x sets a key of logger=wandb, which is not chosen; choose "),
        (["logger=csv", "logger.csv.mode=x"], "logger.csv.mode=x sets a key that does not exist"),
    ],
)
def test_a_choice_or_key_that_does_not_exist_is_one_line(words: list[str], says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        compose_config(words)
    assert str(refused.value).startswith(says)
    assert "wandb" in str(refused.value) or "csv" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("cfg", [{"logger": {}}, {"logger": None}, {"logger": "???"}, {}])
def test_no_logger_is_refused(cfg: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="logger is not set; add logger=CHOICE"):
        build_groups(OmegaConf.create(cfg), ["logger"])


def test_what_is_no_logger_is_refused_by_its_name() -> None:
    with pytest.raises(ValueError, match=r"logger\.csv must have the members of .*Logger, got .*without open"):
        Groups.of({"logger": {"local": Local(), "csv": object()}})
