// Verify a webhook in Node. In Express: express.raw({ type: "*/*", limit: "20mb" }), and pass req.headers
// and req.body.
import { createHmac, timingSafeEqual } from "node:crypto";

// Whether we sent this. secret: whsec_…; headers: names in lower case; body: the raw bytes (a Buffer).
export function verified(secret, headers, body) {
  const id = headers["webhook-id"] ?? "";
  const stamp = headers["webhook-timestamp"] ?? "";
  // An old request may have been sent again by somebody else.
  if (!/^\d+$/.test(stamp) || Math.abs(Date.now() / 1000 - Number(stamp)) > 300) return false;
  const key = Buffer.from(secret.replace(/^whsec_/, ""), "base64");
  if (key.length === 0) throw new Error("the secret is empty: anybody could sign with it");
  const digest = createHmac("sha256", key).update(`${id}.${stamp}.`).update(body).digest("base64");
  const expected = Buffer.from(`v1,${digest}`);
  // Any of them may fit: while a secret is being rotated, there are two.
  return (headers["webhook-signature"] ?? "").split(" ").some((token) => {
    const given = Buffer.from(token);
    return given.length === expected.length && timingSafeEqual(given, expected);
  });
}
