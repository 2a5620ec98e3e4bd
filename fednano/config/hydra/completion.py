"""Completion of a command line in bash, zsh and fish: Hydra finds the words, and this tells it where they begin."""

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
ZSH = r"""_fednano() {
    local start found
    if ! [[ $LBUFFER =~ '^(.*python[0-9.]*)[[:space:]]+-m[[:space:]]+fednano\.run[[:space:]]' ]]; then
        ${_fednano_before[$service]:-_default}
        return
    fi
    start=$match[1]
    found=$(COMP_LINE=$LBUFFER env ${(Q)${(z)start}} -m fednano.run -sc query=bash 2> /dev/null)
    compadd -Q -S '' -- ${=found}
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -u }
typeset -gA _fednano_before
for _fednano_command in python python3 uv; do
    if [[ ${_comps[$_fednano_command]:-} != _fednano ]]; then
        _fednano_before[$_fednano_command]=${_comps[$_fednano_command]:-}
    fi
    compdef _fednano $_fednano_command
done
unset _fednano_command
"""
ZSH_REMOVED = r"""for _fednano_command in python python3 uv; do
    if [[ -n ${_fednano_before[$_fednano_command]} ]]; then
        compdef ${_fednano_before[$_fednano_command]} $_fednano_command
    else
        compdef -d $_fednano_command
    fi
done
unset _fednano_command _fednano_before
unfunction _fednano
"""
FISH = r"""function __fednano_start
    string match --regex --groups-only -- '^(.*python[0-9.]*)\s+-m\s+fednano\.run\s' (commandline --cut-at-cursor)
end
function __fednano_words
    set --local line (commandline --cut-at-cursor)
    set --local start (string split --no-empty ' ' -- (__fednano_start))
    COMP_LINE=$line env $start -m fednano.run -sc query=bash 2> /dev/null | string split --no-empty ' '
end
for command in python python3 uv
    complete --command $command --condition '__fednano_start > /dev/null' --no-files --arguments '(__fednano_words)'
end
"""
FISH_REMOVED = r"""functions --erase __fednano_start __fednano_words
for command in python python3 uv
    complete --command $command --erase
end
"""
SCRIPTS = {
    "install=bash": BASH,
    "uninstall=bash": REMOVED,
    "install=zsh": ZSH,
    "uninstall=zsh": ZSH_REMOVED,
    "install=fish": FISH,
    "uninstall=fish": FISH_REMOVED,
}


def without_interpreter(line: str) -> str:
    """A line as Hydra can read it: the name of a program in place of `… python -m fednano.run`."""
    return re.sub(r"^.*?python[\d.]*\s+-m\s+fednano\.run\b", "fednano.run", line)
