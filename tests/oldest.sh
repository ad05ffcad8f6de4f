#!/bin/sh
# oldest.sh VENV [ARGUMENT...]: the tests that start no processes, with the oldest libraries that setup.cfg allows.
# They are installed into VENV; the arguments are pytest's.
set -eu
venv=$1
shift
"${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
# shellcheck disable=SC2046  # one word for each
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-warn-conflicts $("$venv/bin/python" - <<'PYTHON'
import configparser, re
settings = configparser.ConfigParser()
settings.read("setup.cfg")
extras = settings["options.extras_require"]
asked = settings["options"]["install_requires"] + extras["postgres"] + extras["otel"]
print(*(re.sub(r" >=([\d.]+).*", r"==\1", line) for line in asked.split("\n") if ">=" in line), sep="\n")
PYTHON
)
"$venv/bin/python" -m pytest -n 4 --dist loadfile -m "not process" "$@"
