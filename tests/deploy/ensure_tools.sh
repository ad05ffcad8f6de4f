#!/bin/sh
# promtool for the tests of the alert rules: one program out of Debian's package `prometheus`, whose server nobody needs
# here. Where it cannot be had, the rules are still read by the tests' own check of names and labels.
set -eu
if command -v promtool >/dev/null; then
    exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "promtool is not installed: PromQL is checked by names and labels only"
    exit 0
fi
echo "fetching promtool (once) ..."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
{ apt-get -qq update && apt-get -qq download prometheus && dpkg-deb --fsys-tarfile prometheus_*.deb |
    tar -x ./usr/bin/promtool && install -m 0755 usr/bin/promtool /usr/local/bin/promtool; } >/dev/null 2>&1 ||
    echo "promtool cannot be fetched: PromQL is checked by names and labels only"
