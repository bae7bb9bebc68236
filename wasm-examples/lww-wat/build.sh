#!/bin/sh
# build.sh [OUT]: builds lww.wasm. Needs wat2wasm of wabt.
set -eu
cd "$(dirname "$0")"
exec wat2wasm lww.wat -o "${1:-lww.wasm}"
