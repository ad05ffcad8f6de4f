package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"strings"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		part := strings.Split(lines.Text(), "\t")
		headers := http.Header{}
		headers.Set("webhook-id", part[1])
		headers.Set("webhook-timestamp", part[2])
		headers.Set("webhook-signature", part[3])
		body, _ := base64.StdEncoding.DecodeString(part[4])
		if Verified(part[0], headers, body) {
			fmt.Println("yes")
		} else {
			fmt.Println("no")
		}
	}
}
