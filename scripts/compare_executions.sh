#!/usr/bin/env bash
# How often packed execution gives another answer than its simulation, for every recipe: both multiply the same codes,
# and differ only where the order of a float sum moves a value across a rounding tie.
#
#   scripts/compare_executions.sh DATA [ITEMS] [MODEL]     DATA: a folder for `qvlm evaluate --data`
#
# Writes build/executions/<recipe>/ and prints one table a recipe: answers that differ, KL of the first position.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

data=${1:?usage: scripts/compare_executions.sh DATA [ITEMS] [MODEL]}
items=${2:-1000}
model=${3:-models/reference-llava}
qvlm=build/release/qvlm
out=build/executions
mkdir -p "$out"

for recipe in configs/recipes/*.yaml; do
  name=$(basename "$recipe" .yaml)
  echo "== $name"
  "$qvlm" --quiet quantize "$model" "$out/$name" --recipe "$recipe" --overwrite >/dev/null
  for execution in simulated packed; do
    reference=()
    [[ "$execution" == simulated ]] || reference=(--reference "$out/$name-simulated.json")
    "$qvlm" --quiet evaluate "$out/$name" --data "$data" --items "$items" --execution "$execution" --no-speed \
      --report "$out/$name-$execution.json" "${reference[@]}" >/dev/null
  done
  "$qvlm" report "$out/$name-simulated.json" "$out/$name-packed.json"
done
