// Verify a webhook in Java, 11 or newer. In Spring: @RequestBody byte[] body, @RequestHeader for the three headers.
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.time.Instant;
import java.util.Base64;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

public final class Webhooks {
    private Webhooks() {}

    /** Whether we sent this. secret: whsec_…; id, timestamp, signature: the webhook- headers; body: the raw bytes. */
    public static boolean verified(String secret, String id, String timestamp, String signature, byte[] body)
            throws GeneralSecurityException {
        // An old request may have been sent again by somebody else.
        if (timestamp == null
                || signature == null
                || !timestamp.matches("[0-9]{1,12}")
                || Math.abs(Instant.now().getEpochSecond() - Long.parseLong(timestamp)) > 300) {
            return false;
        }
        Mac mac = Mac.getInstance("HmacSHA256");
        String encoded = secret.strip().replaceFirst("^whsec_", ""); // stripped: from a file it has a newline
        mac.init(new SecretKeySpec(Base64.getDecoder().decode(encoded), "HmacSHA256"));
        mac.update((id + "." + timestamp + ".").getBytes(StandardCharsets.UTF_8));
        byte[] expected = ("v1," + Base64.getEncoder().encodeToString(mac.doFinal(body))).getBytes(StandardCharsets.UTF_8);
        // Any of them may fit: while a secret is being rotated, there are two.
        for (String token : signature.split(" ")) {
            if (MessageDigest.isEqual(token.getBytes(StandardCharsets.UTF_8), expected)) {
                return true;
            }
        }
        return false;
    }
}
