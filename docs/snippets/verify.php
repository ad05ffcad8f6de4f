<?php
// Verify a webhook in PHP, 8 or newer. The raw body is file_get_contents('php://input'); the headers are
// $_SERVER['HTTP_WEBHOOK_ID'] ?? '', and so on with HTTP_WEBHOOK_TIMESTAMP and HTTP_WEBHOOK_SIGNATURE.

/** Whether we sent this. $secret: whsec_…; $body: the raw bytes. */
function verified(string $secret, string $id, string $timestamp, string $signature, string $body): bool
{
    // An old request may have been sent again by somebody else.
    if (!preg_match('/^\d{1,12}$/D', $timestamp) || abs(time() - (int) $timestamp) > 300) {
        return false;
    }
    $key = base64_decode(str_starts_with($secret, 'whsec_') ? substr($secret, 6) : $secret);
    if ($key === '') {
        throw new InvalidArgumentException('The secret is empty: anybody could sign with it.');
    }
    $expected = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$timestamp.$body", $key, true));
    // Any of them may fit: while a secret is being rotated, there are two.
    foreach (explode(' ', $signature) as $token) {
        if (hash_equals($expected, $token)) {
            return true;
        }
    }
    return false;
}
