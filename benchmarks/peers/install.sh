#!/usr/bin/env bash
# Installs the peers: oneDNN from Debian, the Python ones into build/peers-venv. LibTorch is the one of .venv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
if ! dpkg-query -W -f '${db:Status-Status}' libdnnl-dev 2>/dev/null | grep -qx installed; then
  root=()
  ((EUID == 0)) || root=(sudo)
  "${root[@]}" apt-get -qq update
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install libdnnl-dev >/dev/null
fi
[[ -x build/peers-venv/bin/pip ]] || python3 -m venv build/peers-venv
build/peers-venv/bin/pip install --quiet --disable-pip-version-check \
  numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1
