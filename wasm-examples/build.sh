#!/bin/sh
# build.sh: builds all examples from their sources and writes their checksums.
# Commit the modules and SHA256SUMS together with the source that they come from.
set -eu
cd "$(dirname "$0")"
for dir in lww-wat union-c union-as hot-first-c quiet-night-as nearest-zone-wat; do
	"./$dir/build.sh"
	(cd "$dir" && chmod 644 ./*.wasm && sha256sum -- *.wasm >SHA256SUMS && cat SHA256SUMS)
done
