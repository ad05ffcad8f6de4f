<?php
declare(strict_types=1);
set_error_handler(fn (int $_, string $text) => throw new ErrorException($text)); // a warning fails the test
require $argv[1];
foreach (file('php://stdin', FILE_IGNORE_NEW_LINES) as $line) {
    [$secret, $id, $stamp, $signature, $body] = array_map('base64_decode', explode("\t", $line));
    try {
        echo verified($secret, $id, $stamp, $signature, $body) ? "yes\n" : "no\n";
    } catch (InvalidArgumentException) {
        echo "raised\n";
    }
}
