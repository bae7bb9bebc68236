#!/bin/sh
# build.sh [OUT]: builds quietnight.wasm. Needs asc of AssemblyScript 0.28.20: from the
# node_modules here (npm install), or on the PATH.
# The stub runtime has no garbage collector; --use abort= leaves the import out.
set -eu
cd "$(dirname "$0")"
PATH="$PWD/node_modules/.bin:$PATH"
exec asc quietnight.ts --runtime stub -O3 --noAssert --use abort= -o "${1:-quietnight.wasm}"
