. "$1"
tab=$(printf '\t')
while IFS= read -r line; do
  set -f
  secret=${line%%"$tab"*} rest=${line#*"$tab"}
  id=${rest%%"$tab"*} rest=${rest#*"$tab"}
  stamp=${rest%%"$tab"*} rest=${rest#*"$tab"}
  signature=${rest%%"$tab"*}
  printf %s "${rest#*"$tab"}" | openssl base64 -d -A >"$2"
  if verified "$secret" "$id" "$stamp" "$signature" "$2"; then echo yes; else echo no; fi
done
