"""Asks a Python snippet (its path is the argument) about each case on standard input."""

import base64
import binascii
import runpy
import sys

NAMES = "webhook-id", "webhook-timestamp", "webhook-signature"

verified = runpy.run_path(sys.argv[1])["verified"]
for line in sys.stdin:
    secret, *values, body = (base64.b64decode(part) for part in line.rstrip("\n").split("\t"))
    # As aiohttp reads headers; WSGI's are tamer. One that is missing is not there.
    headers = {
        name: value.decode("utf-8", "surrogateescape") for name, value in zip(NAMES, values, strict=True) if value
    }
    try:
        answer = "yes" if verified(secret.decode(), headers, body) else "no"
    except Exception as error:  # noqa: BLE001 - whatever it raises is told
        answer = "raised" if "secret" in str(error) or isinstance(error, binascii.Error) else repr(error)
    sys.stdout.write(f"{answer}\n")
