#!/usr/bin/env bash
# Installs what is missing: Debian packages, and Python packages into the git-ignored .venv.
#
#   scripts/install_deps.sh [--dev]
#
# --dev adds Google Benchmark and the Python packages of the interop checks, the goldens and the training. Versions are
# in constraints.txt. With QVLM_LIBTORCH set, that LibTorch is used and torch is installed only by --dev.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

debian_packages=(
  ca-certificates ccache clang-format cmake g++ git libcli11-dev libgmock-dev libgtest-dev libjpeg62-turbo-dev
  libpcre2-dev libpng-dev libpugixml-dev libspdlog-dev libssl-dev libutf8proc-dev libwebp-dev libyaml-cpp-dev lld
  ninja-build nlohmann-json3-dev pkg-config python3 python3-venv)
python_packages=(easy-vqa numpy pillow)
[[ -n "${QVLM_LIBTORCH:-}" ]] || python_packages+=(torch)
python_set=base
case "${1:-}" in
  "") ;;
  --dev)
    debian_packages+=(libbenchmark-dev)
    python_packages+=(torch transformers tokenizers compressed-tensors safetensors)
    python_set=dev ;;
  *) echo "usage: scripts/install_deps.sh [--dev]" >&2; exit 2 ;;
esac

as_root() {
  if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

install_debian_packages() {
  command -v dpkg-query >/dev/null || { echo "install_deps: this needs Debian (no dpkg-query here)" >&2; exit 1; }
  local missing
  missing=$(comm -23 <(printf '%s\n' "${debian_packages[@]}" | sort) \
    <(dpkg-query -W -f '${Package} ${db:Status-Status}\n' | sed -n 's/ installed$//p' | sort -u))
  [[ -n "$missing" ]] || return 0
  echo "== Debian packages:" $missing
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 update
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 -y --no-install-recommends \
    install $missing >/dev/null
}

install_python_packages() {
  local stamp=.venv/qvlm-$python_set.stamp wanted
  wanted=$(echo "${python_packages[@]}" | cat - scripts/constraints.txt | sha256sum)
  [[ ! -f "$stamp" || "$(<"$stamp")" != "$wanted" ]] || return 0
  echo "== Python packages in .venv: ${python_packages[*]} (minutes, the first time)"
  [[ -x .venv/bin/pip ]] || python3 -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint scripts/constraints.txt \
    "${python_packages[@]}"
  echo "$wanted" >"$stamp"
}

mkdir -p build
exec 9>build/.install_deps.lock
flock 9  # two scripts may start at once
install_debian_packages
install_python_packages
