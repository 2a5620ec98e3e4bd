#!/usr/bin/env bash
# Make the bundle for this Python, install it without a network beside a torch that is there, and train from another
# folder: without Ray and W&B, which the bundle leaves out.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
version=$(uv run --no-sync python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
python3 bundle/make.py --python "$version" --native --no-archive --out "$work"
bundle=$(echo "$work"/fednano-bundle-*)

uv venv --quiet --seed --python "$version" "$work/env"
python=$work/env/bin/python
uv run --no-sync python tests/support/lend_torch.py "$work/env/lib/python$version/site-packages"
"$python" -c 'import torch'
if "$python" -I -c 'import fednano' 2> "$work/said"; then echo "the environment is not empty" && exit 1; fi
# With an index that cannot be reached, and no other source of wheels.
export PIP_INDEX_URL=http://127.0.0.1:9 PIP_FIND_LINKS='' PYTHON=$python
export PIP_NO_COMPILE=1 # what is not imported need not be compiled
"$bundle/install.sh" --target "$work/target"
"$bundle/install.sh" --venv "$work/venv"
for folder in "$work/target" "$work/venv/lib/python$version/site-packages"; do
    for package in torch numpy ray wandb; do test ! -e "$folder/$package"; done
done

mkdir "$work/elsewhere" "$work/texts"
cp "$root"/fednano/runtime/*.py "$work/texts"
cd "$work/elsewhere"
tiny=(data=text "data.path=$work/texts" 'data.pattern="*.py"' "data.root=$work/corpora" tokenizer.vocab_size=300
    model.sequence_len=16 batch_size=2 rounds=1 strategy.local_steps=2 eval_tokens=256)
"$work/venv/bin/python" -c 'from fednano.tokenizer import Tokenizer; Tokenizer.train(["a text to train on"], 262)'
"$work/venv/bin/python" -m fednano.run "${tiny[@]}"
test -f outputs/quickstart/*/summary.json
export PYTHONPATH=$work/target
refused() { # COMMAND… WORDS: the command ends with exit code 2 and a last line that has the words
    local words=${*: -1} code=0
    "${@:1:$#-1}" > "$work/said" 2>&1 || code=$?
    if test "$code" != 2 || ! tail -n 1 "$work/said" | grep -qF "$words"; then
        cat "$work/said" && echo "not refused with: $words" && exit 1
    fi
}
refused "$python" -m fednano.run "${tiny[@]}" runtime=simulation volatility=none "runtime=simulation needs Ray"
unset PYTHONPATH
refused "$bundle/install.sh" --prefix x "got --prefix"
echo >> "$bundle/README.md"
refused "$bundle/install.sh" "must match SHA256SUMS"
echo "wheels: a run from the bundle succeeded"
