#!/bin/sh
# PostgreSQL and PgBouncer for the tests: installed where that is possible. Tests bring up servers of their own
# from the programs; no server of the machine is started or touched.
set -eu
if ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null; then
    if command -v pgbouncer >/dev/null || [ -x /usr/sbin/pgbouncer ]; then
        exit 0
    fi
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "install PostgreSQL (15 or newer) and pgbouncer for the tests on them; make test PYTEST_ARGS='-k \"not postgresql\"' runs the others" >&2
    exit 1
fi
echo "installing PostgreSQL (once) ..."
export DEBIAN_FRONTEND=noninteractive
if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    mkdir -p /etc/postgresql-common
    echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
fi
apt-get -qq update >/dev/null
apt-get -qq install -y --no-install-recommends -o Dpkg::Options::=--force-confold postgresql pgbouncer >/dev/null
