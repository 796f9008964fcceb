#!/usr/bin/env bash
# Compiles each header alone, so that none leans on what its includers included before it.
#
#   scripts/check_headers.sh [BUILD]     BUILD: a built folder with LibTorch, default build/dev
#
# Each header gets the flags of a source of its library. In the LibTorch rooms that includes the precompiled
# header, which only hides a missing include of tensor/tensor.h. A public header is compiled once more as an application
# with strict warnings does: with our include folder only, so that nothing of LibTorch, JSON or the log is in it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
build=${1:-build/dev}

flags_of() {  # flags_of SOURCE: the compile command of that source, up to its object file
  python3 - "$build/compile_commands.json" "$PWD/$1" <<'END'
import json, sys
commands = {entry["file"]: entry["command"] for entry in json.load(open(sys.argv[1]))}
print(commands[sys.argv[2]].partition(" -o ")[0])
END
}

declare -x without_torch with_torch kernels avx512vnni build
without_torch=$(flags_of src/base/log.cc)
with_torch=$(flags_of src/tensor/shape.cc)
kernels=$(flags_of src/kernels/scalar/rows.cc)
avx512vnni=$(flags_of src/kernels/avx512vnni/rows.cc)

check_header() {
  local flags=$with_torch
  case "$1" in
  src/base/* | src/io/* | src/text/* | src/image/* | src/planner/* | include/*) flags=$without_torch ;;
  src/kernels/avx512vnni/*) flags=$avx512vnni ;;
  src/kernels/*) flags=$kernels ;;
  esac
  cd "$build"  # compile commands are relative to it
  echo "#include \"$OLDPWD/$1\"" | $flags -Werror -fsyntax-only -x c++ - || { echo "$1:1: does not compile alone" >&2; false; }
}
compile_as_application() { g++ -std=c++20 -Iinclude $strict -Werror -fsyntax-only -x c++ -; }

check_public_header() {
  echo "#include \"$1\"" | compile_as_application || { echo "$1:1: not clean with $strict" >&2; false; }
}

# -Wextra complains of a field without an initializer of its own that a designated initializer leaves out.
check_designated_initializers() {
  compile_as_application <<'END'
#include <qvlm/qvlm.h>
const qvlm::AnalyzeOptions kAnalyze{.joint_gains = true};
const qvlm::EvaluateOptions kEvaluate{.items = 1};
const qvlm::QuantizeOptions kQuantize{.overwrite = true};
const qvlm::QuantizePlanOptions kPlan{.overwrite = true};
const qvlm::LinearScheme kLinear{.weight = {.bits = 4}};
const qvlm::Override kOverride{.pattern = "lm_head"};
const qvlm::SearchOptions kSearch{.beam_width = 2};
const qvlm::Recipe kRecipe{.name = "r", .plan = {.max_depth = 2}, .vision_encoder = {{.epochs = 2}}};
const qvlm::kernels::PlainWeights kWeights{.out = 1};
const qvlm::kernels::ActivationCodes kCodes{.bits = 4};
const qvlm::kernels::Output kOutput{.values = nullptr};
END
}

declare -x strict="-Wall -Wextra -Wconversion -Wsign-conversion -Wshadow -Wpedantic"
export -f check_header check_public_header compile_as_application

git ls-files -- 'src/*.h' 'include/*.h' | xargs -P "$(nproc)" -I {} bash -c 'check_header {}'
git ls-files -- 'include/*.h' | xargs -P "$(nproc)" -I {} bash -c 'check_public_header {}'
check_designated_initializers
