<?php
require $argv[1];
foreach (file('php://stdin', FILE_IGNORE_NEW_LINES) as $line) {
    [$secret, $id, $stamp, $signature, $body] = explode("\t", $line);
    echo verified($secret, $id, $stamp, $signature, base64_decode($body)) ? "yes\n" : "no\n";
}
