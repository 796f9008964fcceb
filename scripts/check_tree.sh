#!/usr/bin/env bash
# Checks that tracked files keep the rules of the house, in seconds. Prints one line per breach, as file:line.
#
# The two tables below are also the documentation of the layout: who may include whom, and which file
# may include a heavy or third-party header.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export LC_ALL=C

free="kernels base io text image planner"  # rooms without LibTorch
declare -A may_include=(           # besides the room itself
  [kernels]=""
  [base]=""
  [io]="base"
  [text]="base io"
  [image]="base io"
  [planner]="base"
  [tensor]="$free"
  [quant]="$free tensor"
  [model]="$free tensor quant"
  [calib]="$free tensor quant model"
  [transforms]="$free tensor quant model calib"
  [rounding]="$free tensor quant calib"
  [search]="$free tensor quant model calib rounding"
  [pipeline]="$free tensor quant model calib transforms rounding search"
  [runtime]="$free tensor quant model"
  [eval]="$free tensor quant model runtime"
  [cli]="$free tensor quant model calib transforms rounding search pipeline runtime eval")

heavy_headers=(  # pattern of the header, files that may include it
  'benchmark/'                benchmarks/kernels_bench.cc
  'oneapi/'                   benchmarks/peers/onednn_worker.cc
  '(ATen|c10|caffe2|torch)/'  src/tensor/tensor.h
  'CLI/'                      src/cli/options.cc
  'pugixml\.hpp'              src/cli/gate_junit.cc
  'fmt/|spdlog/'              src/base/log.cc
  'nlohmann/'                 src/base/json.cc
  'yaml-cpp/'                 src/base/yaml_reader.h
  'omp\.h'                    src/base/parallel.cc
  'openssl/'                  src/io/sha256.cc
  'pcre2\.h'                  'src/text/regex.cc src/io/name_pattern.cc'
  'utf8proc\.h'               src/text/utf8.cc
  'png\.h'                    src/image/decode_png.cc
  'jpeglib\.h|jerror\.h'      src/image/decode_jpeg.cc
  'webp/'                     src/image/decode_webp.cc)

max_lines=500

tracked() { comm -23 <(git ls-files -- "$@") <(git ls-files --deleted); }
# Texts that we write; data of tests and models is what it is.
texts() { tracked ':!tests/data' ':!models'; }
# search ARGUMENTS...: grep in the files named on stdin; finding nothing is no failure.
search() { xargs -r grep -HnI "$@" || (($? == 123)); }
# breach WHAT: turns lines of search into breaches.
breach() { sed -E "s/^([^:]*:[0-9]+):.*/\1: $1/"; }
cpp() { tracked "${@/%//*.h}" "${@/%//*.cc}" "${@/%//*.cu}"; }  # cpp FOLDERS...
# includes REGEX FOLDERS...: "file:line:header" of every include directive whose header matches.
includes() {
  cpp "${@:2}" | search -oE "^ *# *include *[<\"]($1)[^>\"]*" | sed -E 's/# *include *[<"]//'
}

check_include_direction() {
  local room
  for room in $(tracked src | cut -d/ -f2 | sort -u); do
    if [[ ! -v "may_include[$room]" ]]; then
      echo "src/$room:1: room is missing in the table of scripts/check_tree.sh"
      continue
    fi
    includes '[a-z]+/' "src/$room" | awk -F: -v room="$room" -v allowed=" $room ${may_include[$room]} " \
      -v rooms=" ${!may_include[*]} " '{
        split($3, part, "/")
        if (index(rooms, " " part[1] " ") && !index(allowed, " " part[1] " "))
          print $1 ":" $2 ": " room " may not include " $3
      }'
  done
  includes 'qvlm/' src/kernels | awk -F: '$3 != "qvlm/kernels.h" { print $1 ":" $2 ": kernels may not include " $3 }'
  includes 'qvlm/' benchmarks | awk -F: '$3 != "qvlm/kernels.h" { print $1 ":" $2 ": benchmarks may not include " $3 }'
}

check_heavy_headers() {
  local i
  for ((i = 0; i < ${#heavy_headers[@]}; i += 2)); do
    includes "${heavy_headers[i]}" src include tests benchmarks examples | awk -F: -v only="${heavy_headers[i + 1]}" \
      'index(" " only " ", " " $1 " ") == 0 { print $1 ":" $2 ": only " only " may include " $3 }'
  done
  includes '[^>"]*[/.]' include | awk -F: '$3 !~ "^qvlm/" { print $1 ":" $2 ": a public header may not include " $3 }'
  includes '[^>"]*[/.]' examples | awk -F: '$3 !~ "^qvlm/" { print $1 ":" $2 ": an example may not include " $3 }'
}

# Every source is named in the CMakeLists.txt of its folder or the next one above; tests/support in any of tests. Public
# headers are named in the top one, which installs them; each example is built by a test of its name.
check_sources_are_built() {
  local file folder lists
  for file in $(tracked '*.cc'); do
    folder=$(dirname "$file")
    while [[ ! -f "$folder/CMakeLists.txt" && "$folder" != . ]]; do folder=$(dirname "$folder"); done
    lists=("$folder/CMakeLists.txt")
    [[ "$file" != tests/support/* ]] || lists=(tests/*/CMakeLists.txt)
    grep -qE "(^|[ (/])${file#"$folder"/}([ )]|$)" "${lists[@]}" || echo "$file:1: no CMakeLists.txt names it"
  done
  for file in $(tracked 'include/*.h'); do
    grep -qE "[ (]$(basename "$file")([ )]|$)" CMakeLists.txt || echo "$file:1: CMakeLists.txt does not install it"
  done
  for folder in $(tracked examples | cut -d/ -f2 | sort -u); do
    grep -qE "[ (]$folder([ )]|$)" tests/package/CMakeLists.txt ||
      echo "examples/$folder/CMakeLists.txt:1: no test in tests/package"
  done
}

# Two types of one name in one program are undefined, and no linker says so: it takes either one's inline functions.
check_type_names() {
  tracked 'src/*.h' 'include/*.h' | search -oE '^(class|struct|enum class|union) [A-Za-z0-9_]+( final)? *(: |\{)' |
    sed -E 's/^([^:]*:[0-9]+):.*(class|struct|union) ([A-Za-z0-9_]+).*/\1 \3/' |
    awk '$2 in first { print $1 ": " $2 " is also the type in " first[$2] } { first[$2] = $1 }'
}

check_rooms_have_tests() {
  local room
  for room in $(tracked src | cut -d/ -f2 | sort -u); do
    grep -qs qvlm_test "tests/$room/CMakeLists.txt" || echo "src/$room/CMakeLists.txt:1: no test in tests/$room"
  done
}

check_texts() {
  tracked '*.h' '*.cc' '*.cu' '*.py' '*.sh' '*.cmake' '*CMakeLists.txt' | xargs -r awk -v most="$max_lines" \
    'FNR == most + 1 { print FILENAME ":" FNR ": longer than " most " lines" }'
  texts | search -P '[^\x00-\x7F]' | breach "not ASCII"
  texts | search -E '[[:blank:]]+$' | breach "blanks at the end"
  texts | while IFS= read -r file; do
    [[ ! -s "$file" || -z "$(tail -c 1 "$file")" ]] || echo "$file:$(wc -l <"$file"): no newline at the end"
    [[ -n "$(tail -n 1 "$file")" || ! -s "$file" ]] || echo "$file:$(wc -l <"$file"): empty line at the end"
  done
}

check_words() {
  texts | search -E '\b(TOD[O]|FIXM[E]|XX[X])\b' | sed -E '/TOD[O]\(#[0-9]+\)/d' | breach "open point without an issue number"
  cpp src include tests examples | search -E '^ *// *((TEST|EXPECT|ASSERT)[A-Z_]*\(|#include|(return|const|auto) [^.]*;$)' |
    breach "commented-out code"
  tracked | search -oE '\b((pypi|pythonhosted|pytorch|debian)[.]org|huggingface[.]co|hf[.]co)\b' |
    breach "names a package registry"
}

breaches=$(check_include_direction; check_heavy_headers; check_sources_are_built; check_type_names
           check_rooms_have_tests; check_texts; check_words)
if [[ -n "$breaches" ]]; then
  echo "$breaches"
  echo "check_tree: $(wc -l <<<"$breaches") breaches" >&2
  exit 1
fi
