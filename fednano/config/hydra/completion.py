"""Completion of a command line in bash: Hydra finds the words, and this tells it and bash where they begin."""

import re

# Hydra's own function knows `python FILE` and installed programs, but not `python -m`. Bash takes a word to begin after
# an equals sign, Hydra does not. An environment may stand before the command, so env starts it.
BASH = r"""_fednano() {
    local line=${COMP_LINE:0:COMP_POINT}
    [[ $line =~ ^(.*python[0-9.]*)[[:space:]]+-m[[:space:]]+fednano\.run[[:space:]] ]] || return 0
    local start=${BASH_REMATCH[1]} word=${line##*[[:space:]]} found before=
    [[ $COMP_WORDBREAKS == *=* && $word == *=* ]] && before=${word%=*}=
    found=$(COMP_LINE=$line env $start -m fednano.run -sc query=bash 2> /dev/null)
    COMPREPLY=($(compgen -W "$found" -- "$word"))
    COMPREPLY=("${COMPREPLY[@]#"$before"}")
}
complete -o nospace -o default -F _fednano python python3
complete -p uv &> /dev/null || complete -o nospace -o default -F _fednano uv
"""
REMOVED = """complete -r python python3
[[ $(complete -p uv 2> /dev/null) == *_fednano* ]] && complete -r uv
unset -f _fednano
"""
SCRIPTS = {"install=bash": BASH, "uninstall=bash": REMOVED}


def without_interpreter(line: str) -> str:
    """A line as Hydra can read it: the name of a program in place of `… python -m fednano.run`."""
    return re.sub(r"^.*?python[\d.]*\s+-m\s+fednano\.run\b", "fednano.run", line)
