#!/usr/bin/env bash
# Everything CI runs, cheapest first; stops at the first failure.
#
#   scripts/test.sh [--quick]     --quick: stop after the tests of the dev build
#
# Each step writes build/test/<step>.log. QVLM_TEST_DATA names a folder with extra public data; without it the
# tests that want it say SKIPPED.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

quick=false
case "${1:-}" in
  "") ;;
  --quick) quick=true ;;
  *) echo "usage: scripts/test.sh [--quick]" >&2; exit 2 ;;
esac

if [[ -z "${QVLM_TEST_DATA:-}" && -d ../shared/data ]]; then
  QVLM_TEST_DATA=$(realpath ../shared/data)
  export QVLM_TEST_DATA
fi
export CCACHE_NOHASHDIR=1  # dev takes from the cache what lean has compiled

logs=build/test
mkdir -p "$logs"
summary=""

step() {  # step NAME COMMAND...
  local name=$1 log=$logs/$1.log start=$SECONDS
  echo "== $name"
  if "${@:2}" >"$log" 2>&1; then
    # What ctest says at the end: totals, and which tests were skipped.
    sed -n -e '/tests passed/p' -e '/Skipped)/s/^/  skipped:/p' "$log"
    summary+=$(printf '%-14s ok %6d s' "$name" $((SECONDS - start)))$'\n'
  else
    tail -n 80 "$log" >&2
    echo "$summary$name FAILED after $((SECONDS - start)) s; the whole output is in $log"
    exit 1
  fi
}

build_and_test() {  # build_and_test PRESET
  cmake --preset "$1" && cmake --build --preset "$1" && ctest --preset "$1"
}

interop() {
  cmake --preset release && cmake --build --preset release --target qvlm_cli tokenizer_driver &&
    .venv/bin/python scripts/check_tokenizer.py --driver build/release/tests/text/tokenizer_driver &&
    .venv/bin/python scripts/check_interop.py build/release/qvlm models/reference-llava build/test/interop
}

outlier_twins() {  # the function of a twin is that of its model
  for kind in diagonal turned; do
    .venv/bin/python scripts/make_outlier_twin.py models/reference-llava "build/test/twin-$kind" --kind "$kind" \
      --seed 1 --check || return 1
  done
}

# What threads share, under the thread sanitizer. On one OpenMP thread: libgomp is not instrumented, and its barriers
# would be taken for races. The tests bring threads of their own.
thread_sanitizer() {
  cmake --preset tsan && cmake --build --preset tsan &&
    OMP_NUM_THREADS=1 build/tsan/tests/runtime/runtime_test --gtest_filter='SessionTest.*:ConversationTest.*'
}

gate() {
  cmake --preset release && cmake --build --preset release --target qvlm_cli &&
    .venv/bin/python scripts/check_gate.py build/release/qvlm build/test/gate
}

one_openmp_runtime() {  # two would fight over the cores
  ldd build/dev/qvlm | tee /dev/stderr | grep -cE 'lib(gomp|omp|iomp5)[^/ ]*\.so' | grep -qx 1
}

finish() {
  printf '\n%s%-14s ok %6d s\n' "$summary" total "$SECONDS"
  exit 0
}

packages=()
$quick || packages=(--dev)
step dependencies scripts/install_deps.sh "${packages[@]}"
step tree scripts/check_tree.sh
step format scripts/check_format.sh
step lean build_and_test lean
step dev build_and_test dev
step openmp one_openmp_runtime
! $quick || finish
step headers scripts/check_headers.sh build/dev
step asan build_and_test asan
step tsan thread_sanitizer
step interop interop
step twins outlier_twins
step gate gate
step quickstart scripts/quickstart.sh --items 200
finish
