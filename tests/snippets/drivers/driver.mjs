import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const { verified } = await import(pathToFileURL(process.argv[2]));
for (const line of readFileSync(0, "utf8").trimEnd().split("\n")) {
  const [secret, id, stamp, signature, body] = line.split("\t");
  const headers = { "webhook-id": id, "webhook-timestamp": stamp, "webhook-signature": signature };
  console.log(verified(secret, headers, Buffer.from(body, "base64")) ? "yes" : "no");
}
