#!/bin/sh
# Chromium for the tests of the dashboard: installed where that is possible; elsewhere those tests are skipped.
set -eu
if command -v chromium >/dev/null; then
    exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "chromium is not installed: the tests in a browser are skipped"
    exit 0
fi
echo "installing chromium (once) ..."
export DEBIAN_FRONTEND=noninteractive
{ apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium; } >/dev/null 2>&1 ||
    echo "chromium cannot be installed: the tests in a browser are skipped"
