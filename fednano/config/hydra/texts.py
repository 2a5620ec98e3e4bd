"""Texts of Hydra's errors, and what fednano says instead: which override is at fault, and what to write."""

import re
from collections.abc import Sequence

from fednano.config.errors import shown

# The text of Hydra's error, and ours. Groups are shown at a length that a line can hold.
_TEXTS = (
    (
        r"(?:Ambiguous value for argument|Sweep parameters) '([^=]+)=((?:tag\(.*)?interval\(.+?)'(?:\n| requires --m)",
        "{0} must be one value, got {1}; add -m hydra/sweeper=optuna, which chooses values from an interval",
    ),
    (
        r"(?:Ambiguous value for argument|Sweep parameters) '([^=]+)=(.+?)'(?:\n| requires --multirun)",
        "{0} must be one value, got {1}; {more}write a list as {0}=[A,B], and text with a comma as {0}='A,B'",
    ),
    (
        r"Sweeping over Hydra's configuration is not supported : '([^=]+)=(.*)'",
        "{0} must be one value, got {1}; sweep over keys of the run only",
    ),
    (
        r"Could not delete '([^'=]+)=(.*)'\. No match",
        "~{0}={1} must name the choice that is made, got another one; write ~{0}",
    ),
    (r"Could not delete '([^'=]+)'\. No match", "~{0} must name a choice that is made, got none; leave it out"),
    (
        r"Could not delete from config\. The value of '(.+?)' is (.*) and not (.*)\.",
        "~{0}={2} must name the value that is set, got another than {1}; write ~{0}",
    ),
    (
        r"Could not append to config\. An item is already at '(.+?)'",
        "+{0} must add a key that is not there, got one that is; write it as {0}=VALUE",
    ),
    (
        r"force-add of config groups is not supported: '\+\+([^=]+)=(.*)'",
        "++{0} must not be a group of choices, got ++{0}={1}; write it as {0}={1}",
    ),
    (
        r"hydra\.searchpath must be a list of strings\. Got: (.*)",
        "hydra.searchpath must be a list of folders, got {0}; write it as hydra.searchpath=[file://FOLDER]",
    ),
    (
        r"Primary config directory not found\.\s*Check that the config directory '(.*)' exists",
        "--config-path must be a folder, got {0}; leave it out, and give your YAML files with --config-dir",
    ),
    (
        r"primary config '(.+)' must be a DictConfig, got (\w+)",
        "--config-name must be a YAML file that holds keys, got {0}, which holds a {1}; name another",
    ),
    (
        r"In '(.+?)': Could not override '([^']+)'",
        "{0}.yaml must override groups that its defaults list chooses, got {1}, which it does not; correct that list",
    ),
)
_TWICE = re.compile(r"Multiple values for (\S+)\. To override a value use 'override \S+: (.*)'")


def translated(error: Exception, overrides: Sequence[str], sweeps: bool) -> str | None:
    """What fednano says instead of an error of Hydra's; None if it has no text of its own for it.

    `sweeps`: whether the command has the option -m.
    """
    said, more = str(error), "add -m for one run with each, " if sweeps else ""
    for pattern, text in _TEXTS:
        if found := re.match(pattern, said, re.DOTALL):
            return text.format(*map(shown, found.groups()), more=more)
    if found := _TWICE.match(said):
        group, choice = found.groups()
        if any(word.startswith(f"+{group}=") for word in overrides):
            return f"+{group} must add a group that has no choice yet, got one that has; write it as {group}={choice}"
        return (
            f"{group} must be chosen once in the defaults lists, got {shown(choice)} as well; write the second entry "
            f"as override {group}: {choice}"
        )
    return None
