#!/usr/bin/env bash
# Install fednano from the wheels beside this file, without a network, beside the torch that is there already.
#
#     ./install.sh                    into the environment of python3
#     ./install.sh --venv FOLDER      into a new virtual environment that also sees the packages of python3
#     ./install.sh --target FOLDER    into a folder of its own, for PYTHONPATH
#
# PYTHON=/path/to/python3 names another Python. What is installed and new enough stays; torch and numpy always do.
set -euo pipefail
refuse() { printf 'install.sh: %s\n' "$1" >&2; exit 2; }

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python3}
kind='' folder=''
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
        --venv | --target) [ -z "$kind" ] || refuse "give --venv or --target once, got $1 after --$kind" ;;&
        --venv=* | --target=*) set -- "${1%%=*}" "${1#*=}" "${@:2}"; continue ;;
        --venv | --target)
            [ -n "${2:-}" ] || refuse "$1 must name a folder, got nothing; write $1 FOLDER"
            kind=${1#--} folder=$2
            shift 2 ;;
        *) refuse "options are --venv FOLDER and --target FOLDER, got $1; see --help" ;;
    esac
done

command -v "$python" > /dev/null || refuse "$python must be a Python, but is not found; load its module, or set PYTHON"
read -r version wanted < "$here/BUNDLE"
found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[ "$found" = "$wanted" ] ||
    refuse "Python must be $wanted, got $found ($(command -v "$python")); set PYTHON, or make bundle PYTHON=$found"
[ "$(uname -s) $(uname -m)" = "Linux x86_64" ] ||
    refuse "the system must be Linux x86_64, got $(uname -s) $(uname -m); the bundle is for no other"
(cd "$here" && sha256sum --check --quiet SHA256SUMS > /dev/null 2>&1) ||
    refuse "the bundle's files must match SHA256SUMS, but do not; copy it again (sha256sum -c SHA256SUMS names them)"
"$python" -m pip --version > /dev/null 2>&1 || refuse "pip must be installed for $python; run $python -m ensurepip"
"$python" -c 'import torch' 2> /dev/null ||
    refuse "torch must be importable by $(command -v "$python"); activate the environment that has it, or set PYTHON"

planned=$("$python" "$here/plan.py" "$here/wheels") || exit 2
mapfile -t wheels <<< "$planned"
pip=("$python" -m pip --disable-pip-version-check)
options=(--quiet --no-index --no-deps --no-warn-script-location)
case $kind in
    target)
        mkdir -p "$folder" || refuse "--target must be a folder that can be written, got $folder; choose another one"
        folder=$(cd "$folder" && pwd)
        "${pip[@]}" install "${options[@]}" --upgrade --target "$folder" "${wheels[@]}"
        then="export PYTHONPATH=$folder PATH=$folder/bin:\$PATH" ;;
    venv)
        [ ! -e "$folder" ] || refuse "--venv must be a new folder, got $folder; choose another one or remove it"
        "$python" -m venv --without-pip "$folder"
        folder=$(cd "$folder" && pwd)
        # The new environment sees whatever this Python sees, a virtual environment's packages too.
        "$python" - > "$folder/lib/python$wanted/site-packages/outside.pth" <<- 'CODE'
			from importlib.metadata import distributions
			print(*dict.fromkeys(str(found.locate_file("").resolve()) for found in distributions()), sep="\n")
		CODE
        "${pip[@]}" --python "$folder/bin/python" install "${options[@]}" "${wheels[@]}"
        then=". $folder/bin/activate" ;;
    *)
        "${pip[@]}" install "${options[@]}" --force-reinstall "${wheels[@]}"
        then="python3 -m fednano.run" ;;
esac
printf 'install.sh: fednano %s is installed; next: %s\n' "$version" "$then"
