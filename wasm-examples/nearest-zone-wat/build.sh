#!/bin/sh
# build.sh [OUT]: builds nearest.wasm. Needs wat2wasm of wabt.
set -eu
cd "$(dirname "$0")"
exec wat2wasm nearest.wat -o "${1:-nearest.wasm}"
