#!/usr/bin/env bash
# From a clone to a judged quantized model: installs what is missing, builds, quantizes the bundled model to W8A8
# and W4A8, evaluates all three on easy-VQA's official test split, prints one table, answers one question.
#
#   scripts/quickstart.sh [--items N]     N: evaluate only the first N items
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

items=()
case "${1:-}" in
  "") ;;
  --items) items=(--items "${2:?--items needs a number}") ;;
  *) echo "usage: scripts/quickstart.sh [--items N]" >&2; exit 2 ;;
esac

model=models/reference-llava
data=build/data/easy-vqa-test
out=build/quickstart
qvlm=build/release/qvlm

say() { echo "== $*"; }

build() {
  say "build in build/release (minutes, the first time)"
  mkdir -p build
  # A configured folder configures itself again when a CMake file changes; the logs matter only on failure.
  if [[ ! -f build/release/build.ninja ]] && ! cmake --preset release >build/quickstart-build.log 2>&1; then
    cat build/quickstart-build.log >&2
    exit 1
  fi
  if ! cmake --build --preset release --target qvlm_cli >build/quickstart-build.log 2>&1; then
    tail -n 50 build/quickstart-build.log >&2
    exit 1
  fi
}

evaluate() {  # evaluate NAME MODEL [OPTIONS]
  say "evaluate $1"
  "$qvlm" evaluate "$2" --data "$data" "${items[@]}" --report "$out/$1.json" "${@:3}" >"$out/$1.txt"
}

scripts/install_deps.sh
build
say "data ($data)"
.venv/bin/python scripts/export_datasets.py build/data

rm -rf "$out"
mkdir -p "$out"
evaluate float "$model"
for name in w8a8 w4a8; do
  say "quantize to $name"
  "$qvlm" quantize "$model" "$out/$name" --recipe "configs/recipes/$name.yaml" >"$out/$name-quantize.txt"
  evaluate "$name" "$out/$name" --reference "$out/float.json"
done

echo
"$qvlm" report "$out/float.json" "$out/w8a8.json" "$out/w4a8.json"

samples=("$model"/samples/*.png)
question="what shape is in the image?"
echo
say "${samples[0]}: $question"
"$qvlm" --quiet generate "$out/w4a8" --image "${samples[0]}" --prompt "$question"
