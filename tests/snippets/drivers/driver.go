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
		for place, encoded := range part {
			decoded, _ := base64.StdEncoding.DecodeString(encoded)
			part[place] = string(decoded)
		}
		headers := http.Header{}
		for place, name := range []string{"webhook-id", "webhook-timestamp", "webhook-signature"} {
			if value := part[place+1]; value != "" {
				headers.Set(name, value)
			}
		}
		if Verified(part[0], headers, []byte(part[4])) {
			fmt.Println("yes")
		} else {
			fmt.Println("no")
		}
	}
}
