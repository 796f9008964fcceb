#!/usr/bin/env bash
# The installed package as an application meets it.
#
#   tests/package/package_test.sh BUILD CASE     BUILD: a built folder; `install` comes first, into BUILD/package
#
# tests/package/CMakeLists.txt says what else it takes from the environment.
set -euo pipefail
build=$1 case=$2
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$build/tests/package/$case
model=$source/models/reference-llava
question="what shape is in the image?"

# What the developer's machine is told must not help: the package knows its LibTorch.
unset QVLM_LIBTORCH
export CMAKE_PREFIX_PATH=$build/package
strict="-Wall -Wextra -Wconversion -Wsign-conversion -Wshadow -Wpedantic -Werror"

fail() { echo "package_test: $*" >&2; exit 1; }

build_project() {  # build_project SOURCE [OPTIONS]: in a clean folder; its headers do not count as the system's
  cmake -S "$1" -B "$work/build" -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS="$strict" \
    -DCMAKE_NO_SYSTEM_FROM_IMPORTED=ON "${@:2}"
  cmake --build "$work/build"
}

expect() {  # expect STATUS TEXT COMMAND...: exit status, and a text somewhere in the output, however it is wrapped
  local output status=0
  output=$("${@:3}" 2>&1) || status=$?
  echo "$output"
  ((status == $1)) || fail "expected exit status $1 and got $status from: ${*:3}"
  [[ "$(tr -s '[:space:]' ' ' <<<"$output")" == *"$2"* ]] || fail "expected '$2' in what this printed: ${*:3}"
}

case_install() {
  rm -rf "$build/package"
  cmake --install "$build" --prefix "$build/package"
}

case_kernels_only() {
  export QVLM_LIBTORCH=/nowhere  # the only place where LibTorch would be looked for
  build_project "$source/examples/kernels_only"
  expect 0 "relative error" "$work/build/kernels_only"
  # Whoever wants more is told what is missing, by name.
  local missing="this one has the components kernels, base."
  [[ ! -f "$build/package/lib/cmake/qvlm/qvlm-qvlm.cmake" ]] || missing="set QVLM_LIBTORCH"
  expect 1 "$missing" cmake -S "$source/examples/ask" -B "$work/ask"
}

case_subdirectory() {
  # The flags of the build that is tested, so that ccache has the kernels already.
  strict=$LIBRARY_FLAGS build_project "$source/tests/package/subdirectory" -DQVLM_WITH_TORCH=OFF -DQVLM_WERROR=ON
  expect 0 "relative error" "$work/build/subdirectory"
}

case_ask() {
  build_project "$source/examples/ask"
  expect 0 "circle" "$work/build/ask" "$model" "$model/samples/one-shape.png" "$question"
  # A dialogue: only the words of the second question are run.
  expect 0 "> yes (6 of 83 tokens run" "$work/build/ask" "$model" "$model/samples/one-shape.png" \
    < <(printf '%s\n' "$question" "is there a circle?")
  expect 1 "check the names" "$work/build/ask" "$model" nosuch.png "$question"
  expect 2 "usage" "$work/build/ask"
}

case_batch_answer() {
  build_project "$source/examples/batch_answer"
  mkdir "$work/images"
  cp "$model"/samples/one-shape.png "$work/images/c.png"
  cp "$model"/samples/one-shape.png "$work/images/a.png"
  echo broken >"$work/images/b.png"
  expect 1 "a.png circle b.png FAILED: " "$work/build/batch_answer" "$model" "$work/images" "$question" 3
  rm "$work/images/b.png"
  expect 0 "a.png circle c.png circle 2 images" "$work/build/batch_answer" "$model" "$work/images" "$question"
}

case_quantize_in_app() {
  build_project "$source/examples/quantize_in_app"
  local recipes=$build/package/share/qvlm/recipes
  [[ -d "$recipes" ]] || recipes=$source/configs/recipes  # a build without the executable
  local quantize=("$work/build/quantize_in_app" "$model" "$work/out")
  expect 0 "linears" "${quantize[@]}" "$recipes/w4a8.yaml"
  [[ -f "$work/out/config.json" ]] || fail "no model was written"
  expect 2 "not empty" "${quantize[@]}" "$recipes/w4a8.yaml"
  expect 2 "data" "$work/build/quantize_in_app" "$model" "$work/out2" "$recipes/qvlm-w4a8.yaml"
}

case_executable() {  # finds LibTorch and its recipes, wherever the folder is moved to
  cp -r "$build/package" "$work/moved"
  cd /
  expect 0 "circle" "$work/moved/bin/qvlm" --quiet generate "$model" --image "$model/samples/one-shape.png" \
    --prompt "$question"
  expect 2 "$work/moved/share/qvlm/recipes" "$work/moved/bin/qvlm" bench "$model" --recipe nosuch
}

rm -rf "$work"
mkdir -p "$work"
"case_$case"
