"""Asks a Python snippet (its path is the argument) about each case on standard input."""

import base64
import runpy
import sys

verified = runpy.run_path(sys.argv[1])["verified"]
for line in sys.stdin:
    secret, webhook_id, stamp, signature, body = line.rstrip("\n").split("\t")
    given = {"webhook-id": webhook_id, "webhook-timestamp": stamp, "webhook-signature": signature}
    headers = {name: value for name, value in given.items() if value}  # a header that is missing is not there
    sys.stdout.write("yes\n" if verified(secret, headers, base64.b64decode(body)) else "no\n")
