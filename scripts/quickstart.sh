#!/usr/bin/env bash
# From a clone to a judged quantized model: installs what is missing, builds, quantizes the bundled model and an
# outlier twin of it to W4A8 and W4A4, each rounded to nearest and by Q-VLM's joint search, evaluates everything on
# easy-VQA's official test split, prints a table for each, answers one question.
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
calibration=build/data/easy-vqa-calibration
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

compare_recipes() {  # compare_recipes NAME MODEL: float, nearest and searched at W4A8 and W4A4
  local name recipe reports=("$out/$1-float.json")
  evaluate "$1-float" "$2"
  for recipe in w4a8 qvlm-w4a8 w4a4 qvlm-w4a4; do
    name=$1-$recipe
    say "quantize $1 by $recipe"
    "$qvlm" quantize "$2" "$out/$name" --recipe "configs/recipes/$recipe.yaml" --data "$calibration" \
      >"$out/$name-quantize.txt"
    evaluate "$name" "$out/$name" --reference "$out/$1-float.json"
    reports+=("$out/$name.json")
  done
  tables+=("$("$qvlm" report "${reports[@]}")")
}

scripts/install_deps.sh --dev  # the twin is made with transformers
build
say "data ($data)"
.venv/bin/python scripts/export_datasets.py build/data --calibration 512

rm -rf "$out"
mkdir -p "$out"
say "make an outlier twin: the same function, harder to quantize"
.venv/bin/python scripts/make_outlier_twin.py "$model" "$out/twin" --kind turned --seed 1
tables=()
compare_recipes model "$model"
compare_recipes twin "$out/twin"
for table in "${tables[@]}"; do
  printf '\n%s\n' "$table"
done

samples=("$model"/samples/*.png)
question="what shape is in the image?"
echo
say "${samples[0]}: $question"
"$qvlm" --quiet generate "$out/model-qvlm-w4a8" --image "${samples[0]}" --prompt "$question"
