#!/bin/sh
# usage: check_kernel_spills.sh libqvlm_kernels.a
# Refuses vector registers that move to or from the stack in the tiles of the AVX-512 kernels. A tile
# keeps its sums in registers; a compiler that spills them makes it two to three times slower, which no
# test of results sees and a timer sees only on a quiet machine. No function is excepted; the 16
# registers of AVX2 are another matter.
set -eu
library=$1

# %rbp is a general register unless a function makes it its frame.
objdump -d -C --no-show-raw-insn "$library" | awk '
  function report() {
    if (name != "" && (spills + (frame ? framed : 0)) > 0) {
      printf "%s: %d vector moves to or from the stack\n", name, spills + (frame ? framed : 0)
      bad = 1
    }
    name = ""
  }
  /^[0-9a-f]+ <.*>:$/ {
    report()
    if ($0 ~ /::(Tile<.*>::(multiply|take_turn)|multiply_tile<.*>)\(/) { name = $0; tiles++ }
    spills = framed = frame = 0
    next
  }
  name == "" { next }
  /mov +%rsp,%rbp/ { frame = 1 }
  /%zmm/ && /\(%rsp/ { spills++ }
  /%zmm/ && /\(%rbp/ { framed++ }
  END {
    report()
    if (tiles == 0) { print "no tiles found"; bad = 1 }
    exit bad
  }' >&2
