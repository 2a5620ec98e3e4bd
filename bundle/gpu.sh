#!/usr/bin/env bash
# Check fednano on this machine's GPU: ./gpu.sh [further arguments of tests/gpu], such as --out FOLDER.
# DEVICE=cpu tries the checks without one; PYTHON=/path/to/python3 names another Python.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python3}
if ! "$python" -c 'import fednano, hypothesis, pytest' 2> /dev/null; then
    [ -d "$here/installed/fednano" ] || "$here/install.sh" --target "$here/installed"
    export PYTHONPATH="$here/installed${PYTHONPATH:+:$PYTHONPATH}" PATH="$here/installed/bin:$PATH"
fi
cd "$here/source"
exec "$python" tests/gpu --device "${DEVICE:-cuda}" "$@"
