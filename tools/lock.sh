#!/bin/sh
# Writes both lock files anew: exact versions and hashes, and no address of any package index.
set -eu
cd "$(dirname "$0")/../requirements"
for set in runtime dev; do
  uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
    --python-version 3.11 "$set.in" -o "$set.lock"
done
