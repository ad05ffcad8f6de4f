// Verify a webhook in Go. Read the body first: body, err := io.ReadAll(r.Body).
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Verified says whether we sent this. secret: whsec_…; body: the raw bytes.
func Verified(secret string, headers http.Header, body []byte) bool {
	stamp := headers.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if age := time.Now().Unix() - seconds; err != nil || age > 300 || age < -300 {
		return false // an old request, sent again by somebody else
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil || len(key) == 0 { // anybody could sign with an empty secret
		return false
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(headers.Get("webhook-id") + "." + stamp + "."))
	mac.Write(body)
	expected := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	// Any of them may fit: while a secret is being rotated, there are two.
	for _, token := range strings.Split(headers.Get("webhook-signature"), " ") {
		if hmac.Equal([]byte(token), []byte(expected)) {
			return true
		}
	}
	return false
}
