#!/bin/sh
# usage: check_kernel_symbols.sh libqvlm_kernels.a
# Refuses weak symbols in the objects of the CPU levels. An inline function compiled for AVX-512 would be
# one, and the linker may keep that copy for everybody, also on a CPU without AVX-512.
set -eu
library=$1

symbols=$(nm -A -C "$library" | grep -E '(attention|matmul_a8|matmul_a16|rows|half_rows)\.cc\.o:')
if ! printf '%s\n' "$symbols" | grep -q 'kScalarInteger'; then
  echo "$library: no level objects found" >&2
  exit 1
fi
weak=$(printf '%s\n' "$symbols" | grep -E ' [uVvWw] ' || true)
if [ -n "$weak" ]; then
  echo "weak symbols in kernel objects:" >&2
  printf '%s\n' "$weak" >&2
  exit 1
fi
