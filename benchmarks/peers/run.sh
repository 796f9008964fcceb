#!/usr/bin/env bash
# Installs the peers, builds, measures, and puts the table into docs/performance.md. Arguments go to compare.py;
# the whole takes about half an hour, --shapes 4096x4096 --threads 2 some minutes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
benchmarks/peers/install.sh
cmake --preset release >/dev/null
cmake --build --preset release --target kernels_worker
# Without oneDNN there is no such target, and the table says absent.
cmake --build --preset release --target onednn_worker || true
python3 benchmarks/peers/compare.py --update docs/performance.md "$@"
