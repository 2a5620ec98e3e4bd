"""The --help text of the commands that YAML files configure, in lines of at most 80 characters."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import DictConfig

from fednano.config.reference.keys import groups_of, root_keys
from fednano.config.reference.shown import keys_shown, with_plugins, with_value, wrapped
from fednano.config.reference.written import read_choice

RUN = """\
Pretrain a GPT with federated learning on clients that come and go.

    python -m fednano.run [OPTIONS] [GROUP=CHOICE …] [KEY=VALUE …]

Without arguments it runs the quickstart. GROUP=CHOICE picks a file, and
KEY=VALUE sets a value.

Examples:

    python -m fednano.run
    python -m fednano.run experiment=curtailment_small
    python -m fednano.run model=d4 strategy=fedavg volatility=none clients=8
    python -m fednano.run -m strategy=fedavg,diloco seed=1,2

Options:

    --help GROUP|KEY …     explain groups and keys: --help strategy round.until
    --cfg job --resolve    print the configuration; run nothing
    --info defaults        print where each part of the configuration comes
                           from; run nothing
    -m KEY=A,B …           one run for each combination of the values
    resume=RUN_FOLDER      continue an interrupted or killed run
    sweep.resume=FOLDER    continue a sweep
    --config-dir FOLDER    also search this folder for choices
    --allow-module MODULE  let _target_ name classes of this module
    -sc install=bash       print what completes commands in bash:
                           eval "$(python -m fednano.run -sc install=bash)"
    --hydra-help           list the other options, which are Hydra's

Groups and choices (GROUP=CHOICE); * is chosen here:
"""


def run_help(folders: Sequence[Path], composed: DictConfig, plugins: Mapping[str, Mapping[str, str]]) -> str:
    """The help of `fednano.run`: options, groups with their choices, and the keys outside the groups.

    `folders` hold YAML files, fednano's last; `composed` is what they give, with Hydra's own node; `plugins` are the
    choices of Hydra's plug-ins, by group.
    """
    found, choices = [RUN], composed.hydra.runtime.choices
    for group, names in with_plugins(groups_of(*folders), plugins).items():
        marked = (f"*{name}" if choices.get(group) == name else name for name in names)
        found.append(wrapped(f"{group}: {', '.join(marked)}", 4, 8))
    found += ["", "Keys and their values (KEY=VALUE); those of a group: --help GROUP", ""]
    root = root_keys(read_choice(folders[-1] / "config.yaml"), {}, {})
    found.append(keys_shown((with_value(key, composed) for key in root), 4))
    return "\n".join(found)


def command_help(conf: Path, name: str) -> str:
    """What `python -m fednano.<name>` does, its groups with all choices, and its keys, from `conf/<name>.yaml`."""
    written = (conf / f"{name}.yaml").read_text(encoding="utf-8")
    header = re.match(r"(#.*\n)*", written)
    purpose = [line.removeprefix("#").strip() for line in (header[0] if header else "").splitlines()]
    read = read_choice(conf / f"{name}.yaml")
    groups, choices = [], groups_of(conf)
    for group, default in read.parts.items():
        groups.append(f"{group}: {default.text}")
        groups.append(wrapped(f"choices: {', '.join(choices[group])}", 4, 8))
        if default.comment:
            groups.append(wrapped(default.comment, 4))
    found = [*map(wrapped, purpose), "", f"python -m fednano.{name} GROUP=CHOICE KEY=VALUE …", ""]
    found += ["Groups and their defaults:", "", *groups]
    if keys := root_keys(read, {}, {}):
        found += ["", "Keys and their defaults; ??? must be given:", "", keys_shown(keys)]
    found += ["", "--config-dir FOLDER adds a folder of yours; --allow-module MODULE lets _target_"]
    found += ["name its classes; python -m fednano.run --help GROUP explains a group."]
    return "\n".join(found)
