. "$1"
tab=$(printf '\t')
decoded() { printf %s "$1" | openssl base64 -d -A; }
while IFS= read -r line; do
  secret=${line%%"$tab"*} rest=${line#*"$tab"}
  id=${rest%%"$tab"*} rest=${rest#*"$tab"}
  stamp=${rest%%"$tab"*} rest=${rest#*"$tab"}
  signature=${rest%%"$tab"*}
  decoded "${rest#*"$tab"}" >"$2"
  verified "$(decoded "$secret")" "$(decoded "$id")" "$(decoded "$stamp")" "$(decoded "$signature")" "$2"
  case $? in 0) echo yes ;; 1) echo no ;; *) echo raised ;; esac
done
