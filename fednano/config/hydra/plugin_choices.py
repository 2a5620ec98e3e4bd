"""The launchers and sweepers that Hydra and its plug-ins bring, for the help: choices without a YAML file of ours."""

from collections.abc import Mapping
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from fednano.config.hydra.plugins import PACKAGES

TOLD: Mapping[str, Mapping[str, str]] = {
    "hydra/launcher": {
        "basic": "one job after the other, in this process.",
        "joblib": "hydra.launcher.n_jobs jobs at a time on this machine, -1 for one per core.",
        "submitit_local": "all jobs at once on this machine, to try out what would go to a cluster.",
        "submitit_slurm": "SLURM with the plug-in's own defaults; slurm has those that suit runs.",
    },
    "hydra/sweeper": {
        "basic": "one job for each combination of the values.",
        "optuna": "values chosen from intervals, by a sampler: see --help hydra/sweeper/sampler.",
    },
    "hydra/sweeper/sampler": {
        "cmaes": "CMA-ES, for numbers that interact.",
        "grid": "every combination of the values in hydra.sweeper.sampler.search_space.",
        "motpe": "TPE for several objectives.",
        "nsgaii": "a genetic algorithm for several objectives.",
        "random": "independent draws.",
        "tpe": "the tree-structured Parzen estimator, Optuna's default.",
    },
}

MEANINGS: Mapping[str, Mapping[str, str]] = {
    "hydra/launcher=joblib": {"n_jobs": "jobs at a time; -1: one per core"},
    "hydra/sweeper=optuna": {
        "n_trials": "number of trials in all",
        "n_jobs": "trials that are chosen at a time; more than one is of use with a parallel launcher",
        "direction": "minimize or maximize; a list of them for several objectives, which sweep.metrics names",
        "max_failure_rate": "share of the trials chosen together that may fail; sweeps of fednano set it to 1",
        "params": "what values are chosen from, if the command line does not say",
        "storage": "must be null; sweep.resume continues a sweep",
    },
}


def plugin_choices() -> dict[str, dict[str, str]]:
    """By group, the choices and what each is; those whose package is not installed say how to get it."""
    return {
        group: {name: f"{told}{_lacking(group, name)}" for name, told in names.items()} for group, names in TOLD.items()
    }


def plugin_settings(group: str, name: str) -> dict[str, tuple[Any, str]]:
    """The keys of a plug-in's choice, each with its default and what it means, which is empty if nobody said it.

    There are none if the plug-in is not installed. Hydra must have started.
    """
    if not _installed(group, name):
        return {}
    node = OmegaConf.to_container(ConfigStore.instance().load(f"{group}/{name}.yaml").node, enum_to_str=True)
    assert isinstance(node, dict)
    told = MEANINGS.get(f"{group}={name}", {})
    left_out = {"_target_", "defaults", *(str(key) for key in node if f"{group}/{key!s}" in TOLD)}
    return {str(key): (value, told.get(str(key), "")) for key, value in node.items() if key not in left_out}


def _installed(group: str, name: str) -> bool:
    try:
        return f"{name}.yaml" in ConfigStore.instance().list(group)
    except OSError:
        return False


def _lacking(group: str, name: str) -> str:
    if _installed(group, name):
        return ""
    of = "hydra/sweeper=optuna" if group == "hydra/sweeper/sampler" else f"{group}={name}"
    return f" Needs pip install 'fednano[{PACKAGES[of][1]}]'." if of in PACKAGES else ""
