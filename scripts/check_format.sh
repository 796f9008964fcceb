#!/usr/bin/env bash
# Says which tracked C++ files clang-format would change.   scripts/check_format.sh [--fix]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mode=(--dry-run -Werror)
[[ "${1:-}" != --fix ]] || mode=(-i)
git ls-files -z -- '*.h' '*.cc' '*.cu' | xargs -0 --no-run-if-empty clang-format "${mode[@]}"
