#!/bin/sh
# build.sh [OUT]: builds hotfirst.wasm. Needs clang and wasm-ld (lld), 14 or newer.
# --stack-first lets a stack that overflows trap instead of running into the data.
set -eu
cd "$(dirname "$0")"
exec clang --target=wasm32 -O2 -Wall -Wextra -Werror -nostdlib -mbulk-memory \
	-Wl,--no-entry,--strip-all,--stack-first -Wl,-z,stack-size=16384 \
	-o "${1:-hotfirst.wasm}" guest/hotfirst.c
