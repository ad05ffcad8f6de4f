// Verify a webhook in Node. In Express: express.raw({ type: "*/*" }), and pass req.headers and req.body.
import { createHmac, timingSafeEqual } from "node:crypto";

// Whether we sent this. secret: whsec_…; headers: names in lower case; body: the raw bytes (a Buffer).
export function verified(secret, headers, body) {
  const id = headers["webhook-id"] ?? "";
  const stamp = headers["webhook-timestamp"] ?? "";
  // An old request may have been sent again by somebody else.
  if (!/^\d+$/.test(stamp) || Math.abs(Date.now() / 1000 - Number(stamp)) > 300) return false;
  const key = Buffer.from(secret.replace(/^whsec_/, ""), "base64");
  const expected = createHmac("sha256", key).update(`${id}.${stamp}.`).update(body).digest();
  // Any of them may fit: while a secret is being rotated, there are two.
  return (headers["webhook-signature"] ?? "").split(" ").some((token) => {
    if (!token.startsWith("v1,")) return false;
    const given = Buffer.from(token.slice(3), "base64");
    return given.length === expected.length && timingSafeEqual(given, expected);
  });
}
