"""The --help text of the commands that a YAML file of their own configures: prepare, sample, evaluate, node."""

import re
from pathlib import Path


def command_help(conf: Path, name: str) -> str:
    """What `python -m fednano.<name>` does, its groups with all choices, and its keys, from `conf/<name>.yaml`."""
    written = (conf / f"{name}.yaml").read_text(encoding="utf-8").partition("\nhydra:")[0]
    header = re.match(r"(#.*\n)*", written)
    purpose = [line.removeprefix("#").strip() for line in (header[0] if header else "").splitlines()]
    defaults, _, keys = written[header.end() if header else 0 :].removeprefix("defaults:\n").partition("\n\n")
    groups = []
    for group, default, comment in re.findall(r"  - (\w+): (\w+)( #.*)?", defaults):
        choices = sorted(path.stem for path in (conf / group).glob("[!_]*.yaml"))
        groups.append(f"{group}: {default}{comment}\n    choices: {', '.join(choices)}")
    found = [*purpose, "", f"python -m fednano.{name} GROUP=CHOICE KEY=VALUE …", "", "Groups and their defaults:", ""]
    found += groups
    if keys:
        found += ["", "Keys and their defaults; ??? must be given:", "", keys.strip()]
    found += ["", "--config-dir FOLDER adds a folder of yours; --allow-module MODULE lets _target_ name its classes"]
    return "\n".join(found)
