#!/bin/sh
# Writes the secrets of compose.yaml into ./secrets. Never overwrites one.
# The folder is for its owner only. The files in it can be read by the users inside the containers, which have other
# numbers; `gateway check` warns of that mode.
set -eu
cd "$(dirname "$0")"
mkdir -p -m 0700 secrets
for name in webio.secret admin.password database.password; do
    [ -e "secrets/$name" ] || head -c 36 /dev/urandom | base64 | tr -d '\n=' > "secrets/$name"
    chmod 0644 "secrets/$name"
done
