#!/usr/bin/env bash
# Run what needs a GPU: tests, the demo, sampling and the regression, in at most nine minutes (docs/gpu.md).
#   gpu_day.sh            on a CUDA machine; no network is needed; results go to $OUT or benchmarks/results/gpu
#   gpu_day.sh --dry      the same parts on the CPU at tiny sizes; results go to $OUT or build/gpu
#   gpu_day.sh --wheels   where pip works: download into .whl/ the packages that a bare CUDA machine lacks
set -u
cd "$(dirname "$0")/.." || exit 1
WHEELS=.whl
if [ -z "${PYTHON:-}" ]; then
  PYTHON=python3
  if [ -x .venv/bin/python ]; then PYTHON=.venv/bin/python; fi
fi

# The machine has Python 3.12 and PyTorch; these are the packages that it lacks and that the parts import. Versions are
# those installed here, which are the ones that the tests ran with.
PACKAGES="diffusers donfig google-crc32c himalaya ijson importlib-metadata isal nibabel nilearn numcodecs pycocotools
  tomlkit zarr"

download_wheels() {
  local pinned
  # shellcheck disable=SC2086  # one word per package
  pinned=$("$PYTHON" -c 'import sys
from importlib.metadata import version
print(*(f"{name}=={version(name)}" for name in sys.argv[1:]))' $PACKAGES) || return 1
  rm -rf "$WHEELS"
  # shellcheck disable=SC2086
  "$PYTHON" -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_17_x86_64 \
    --platform manylinux2014_x86_64 --platform manylinux1_x86_64 -d "$WHEELS" $pinned || return 1
  echo "$WHEELS: $(find "$WHEELS" -type f -name '*.whl' | wc -l) wheels, $(du -sm "$WHEELS" | cut -f1) MiB"
}

if [ "${1:-}" = "--wheels" ]; then
  download_wheels
else
  exec "$PYTHON" benchmarks/gpu_day.py --wheels-folder "$WHEELS" "$@"
fi
