#!/bin/sh
# What the benchmarks compare with, and their tools, from the system's packages: installed where that is possible.
set -eu
missing=""
for pair in redis-server:redis-server webhook:webhook gcc:gcc; do
    command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair##*:}"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "the benchmarks need these programs: $missing" >&2
    exit 1
fi
echo "installing$missing (once) ..."
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086  # the list is meant to be split; libc6-dev is what gcc needs to compile anything
apt-get -qq update >/dev/null && apt-get -qq install -y --no-install-recommends $missing libc6-dev >/dev/null
# Debian starts a Redis of its own: the benchmarks start theirs.
if command -v systemctl >/dev/null; then systemctl disable --now redis-server >/dev/null 2>&1 || true; fi
