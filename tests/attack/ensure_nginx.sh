#!/bin/sh
# nginx for the tests behind it: installed where that is possible; elsewhere those tests are skipped.
set -eu
if command -v nginx >/dev/null || [ -x /usr/sbin/nginx ]; then
    exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "nginx is not installed: the tests behind it are skipped"
    exit 0
fi
echo "installing nginx (once) ..."
export DEBIAN_FRONTEND=noninteractive
{ apt-get -qq update && apt-get -qq install -y --no-install-recommends nginx-light; } >/dev/null 2>&1 ||
    echo "nginx cannot be installed: the tests behind it are skipped"
