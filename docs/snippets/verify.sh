# Verify a webhook in a shell, with openssl: to check by hand what another verifier refuses. Source it, then
#   verified whsec_... evt_... 1763719217 'v1,K5oZ...' body.json && echo genuine
# body.json holds the body as it came: no newline at its end that was not sent.

verified() ( # secret, webhook-id, webhook-timestamp, webhook-signature, file with the body
  case "$3" in "" | 0* | *[!0-9]*) exit 1 ;; esac
  age=$(($(date +%s) - $3))
  [ "${age#-}" -le 300 ] || exit 1 # an old request, sent again by somebody else
  key=$(printf %s "${1#whsec_}" | openssl base64 -d -A | od -An -v -tx1 | tr -d ' \n')
  [ -n "$key" ] || { echo "the secret is empty: anybody could sign with it" >&2; exit 2; }
  digest=$({ printf '%s.%s.' "$2" "$3"; cat "$5"; } |
    openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | openssl base64 -A)
  [ -n "$digest" ] || exit 2 # openssl has said why
  # Any of them may fit: while a secret is being rotated, there are two.
  case " $4 " in *" v1,$digest "*) exit 0 ;; *) exit 1 ;; esac
)
