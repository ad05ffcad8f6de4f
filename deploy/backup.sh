#!/bin/sh
# backup.sh FOLDER [KEEP]: a backup of the database while the service runs, into FOLDER; the newest KEEP (14) are kept.
#
# Reads RECEIVER_DATABASE_URL, or the file that RECEIVER_DATABASE_URL_FILE names, as the service does. Of SQLite it
# makes a whole copy that is checked; of PostgreSQL a dump for pg_restore. Not in it, on purpose: the secret keys. Keep
# those apart; without them, what is sealed in the database (subscribers' secrets) is lost. How to restore:
# docs/operating.md, "Backup".
set -eu
umask 077
folder=${1:-}
keep=${2:-14}
case $keep in *[!0-9]*|0*) folder= ;; esac # not 0: that would take away the new one, too
if [ -z "$folder" ]; then
    echo "usage: $0 FOLDER [KEEP], KEEP from 1" >&2
    exit 2
fi
if [ -n "${RECEIVER_DATABASE_URL_FILE:-}" ]; then
    RECEIVER_DATABASE_URL=$(cat "$RECEIVER_DATABASE_URL_FILE")
    export RECEIVER_DATABASE_URL
fi
url=${RECEIVER_DATABASE_URL:-sqlite:///var/receiver.db}
mkdir -p "$folder"
name=$folder/receiver-$(date -u +%Y%m%dT%H%M%SZ)
service=
# Half a backup is none, and would fill the disk for those to come.
trap 'rm -f "$name".*.part* ${service:+"$service"}' EXIT
trap 'exit 1' HUP INT TERM
# Nor may the half of one that was killed, or lost its power; one that somebody still writes is younger than a day.
find "$folder" -maxdepth 1 -name 'receiver-*Z.*.part*' -mtime +0 -exec rm -f {} +

case $url in
sqlite:///*)
    file=${url#sqlite:///}
    made=$name.db
    # Python's sqlite3 is where the service is; the program of that name may not be. One snapshot, whoever writes.
    "${PYTHON:-python3}" - "$file" "$made.part" <<'PYTHON'
import sqlite3, sys
from urllib.parse import quote, unquote
source = sqlite3.connect(f"file:{quote(unquote(sys.argv[1]))}?mode=ro", uri=True, timeout=60)
copy = sqlite3.connect(sys.argv[2])
source.backup(copy)
copy.execute("PRAGMA journal_mode=DELETE")
(said,) = copy.execute("PRAGMA integrity_check").fetchone()
copy.close()
sys.exit(None if said == "ok" else f"the copy is damaged: {said}")
PYTHON
    ;;
postgres*://*)
    made=$name.dump
    # A file that only we can read: an address with a password must not be seen in the list of processes.
    service=$(mktemp)
    "${PYTHON:-python3}" - >"$service" <<'PYTHON'
import os, re
from urllib.parse import parse_qs, unquote, urlsplit
parts = urlsplit(os.environ["RECEIVER_DATABASE_URL"])
query = parse_qs(parts.query)
values = {"host": parts.hostname, "port": parts.port, "dbname": unquote(parts.path.lstrip("/")),
          "user": unquote(parts.username or ""), "password": unquote(parts.password or ""),
          **{name: given[-1] for name, given in query.items()}}
# Standbys are named as host=NAME:PORT, once each; libpq wants the names and the ports apart.
hosts = [re.fullmatch(r"([\w.-]+)(?::(\d*))?", host) for host in query.get("host", ())]
if hosts and all(hosts):
    values["host"] = ",".join(host[1] for host in hosts)
    if any(host[2] for host in hosts):
        values["port"] = ",".join(host[2] or "" for host in hosts)
print("[receiver]", *(f"{name}={value}" for name, value in values.items() if value), sep="\n")
PYTHON
    PGSERVICEFILE=$service pg_dump --format=custom --file="$made.part" "service=receiver"
    ;;
*)
    echo "RECEIVER_DATABASE_URL is neither sqlite:/// nor postgresql://" >&2
    exit 2
    ;;
esac
mv "$made.part" "$made"
echo "$made"
# Names sort by time.
ls -1 "$folder"/receiver-*Z.db "$folder"/receiver-*Z.dump 2>/dev/null | sort -r | tail -n "+$((keep + 1))" |
    while read -r old; do rm -f "$old"; done
