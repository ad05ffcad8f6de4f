import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const { verified } = await import(pathToFileURL(process.argv[2]));
for (const line of readFileSync(0, "utf8").trimEnd().split("\n")) {
  const part = line.split("\t").map((encoded) => Buffer.from(encoded, "base64"));
  const headers = {};
  ["webhook-id", "webhook-timestamp", "webhook-signature"].forEach((name, place) => {
    if (part[place + 1].length) headers[name] = part[place + 1].toString("latin1"); // as node:http reads them
  });
  try {
    console.log(verified(part[0].toString(), headers, part[4]) ? "yes" : "no");
  } catch {
    console.log("raised");
  }
}
