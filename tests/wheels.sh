#!/usr/bin/env bash
# Build the wheels, install them into an empty environment, and train from another folder.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
uv build --quiet --all-packages --wheel --out-dir "$work/dist"
uv venv --quiet "$work/env"
# What the checkout was tested with, also for the wheels.
sed -n '/^constraint-dependencies/,/^]/s/^ *"\(.*\)",*$/\1/p' pyproject.toml > "$work/constraints.txt"
VIRTUAL_ENV="$work/env" uv pip install --quiet --constraints "$work/constraints.txt" "$work"/dist/*.whl
mkdir "$work/elsewhere" "$work/texts"
cp fednano/runtime/*.py "$work/texts"
cd "$work/elsewhere"
"$work/env/bin/python" -c 'from fednano.tokenizer import Tokenizer; Tokenizer.train(["a text to train on"], 262)'
"$work/env/bin/python" -m fednano.run data=text "data.path=$work/texts" 'data.pattern="*.py"' "data.root=$work/corpora" \
  tokenizer.vocab_size=300 model.sequence_len=16 batch_size=2 rounds=1 strategy.local_steps=2 eval_tokens=256
test -f outputs/quickstart/*/summary.json
echo "wheels: a run from the installed package succeeded"
