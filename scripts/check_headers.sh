#!/usr/bin/env bash
# Compiles each header alone, so that none leans on what its includers included before it.
#
#   scripts/check_headers.sh [BUILD]     BUILD: a built folder with LibTorch, default build/dev
#
# Each header gets the flags of a source of its library. In the LibTorch rooms that includes the precompiled
# header, which only hides a missing include of tensor/tensor.h.
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
  local flags=$without_torch
  case "$1" in
  src/tensor/* | src/quant/* | src/model/* | src/calib/* | src/search/* | src/pipeline/* | src/runtime/* | src/eval/* | src/cli/*)
    flags=$with_torch ;;
  src/kernels/avx512vnni/*) flags=$avx512vnni ;;
  src/kernels/*) flags=$kernels ;;
  esac
  cd "$build"  # compile commands are relative to it
  echo "#include \"$OLDPWD/$1\"" | $flags -Werror -fsyntax-only -x c++ - || { echo "$1:1: does not compile alone" >&2; false; }
}
export -f check_header

git ls-files -- 'src/*.h' 'include/*.h' | xargs -P "$(nproc)" -I {} bash -c 'check_header {}'
