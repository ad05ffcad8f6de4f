# Verify a webhook in a shell, with openssl: to check by hand what another verifier refuses. Source it, then
#   verified whsec_... evt_... 1763719217 'v1,K5oZ...' body.json && echo genuine
# body.json holds the body as it came: no newline at its end that was not sent.

verified() { # secret, webhook-id, webhook-timestamp, webhook-signature, file with the body
  case "$3" in "" | *[!0-9]*) return 1 ;; esac
  age=$(($(date +%s) - $3))
  [ "${age#-}" -le 300 ] || return 1 # an old request, sent again by somebody else
  key=$(printf %s "${1#whsec_}" | openssl base64 -d -A | od -An -v -tx1 | tr -d ' \n')
  expected="v1,$({ printf '%s.%s.' "$2" "$3"; cat "$5"; } |
    openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | openssl base64 -A)"
  for token in $4; do # any of them may fit: while a secret is being rotated, there are two
    [ "$token" = "$expected" ] && return 0
  done
  return 1
}
