// Creates a key, rotates it with an overlap, revokes the old one.
//
//   NATS_URL=nats://127.0.0.1:4222 KEYLEDGER_TOKEN_FILE=./billing.token npm start
import { readFile } from "node:fs/promises";
import { CommandError, Producer } from "./producer.js";
import { newToken, sha256 } from "./token.js";

const producer = await Producer.connect({
  servers: process.env.NATS_URL ?? "nats://127.0.0.1:4222",
  token: (await readFile(process.env.KEYLEDGER_TOKEN_FILE, "utf8")).trim(),
  account: process.env.KEYLEDGER_ACCOUNT,
});

// The token is made here. Keep it, with the command's id, before you send: whatever
// becomes of the answer, the command can be sent again and the token is known.
const token = newToken("live");
const id = `order-${process.env.ORDER ?? "4711"}`;
const create = { name: "Production Server", environment: "live", scopes: ["invoices:read"], token_sha256: sha256(token) };
const created = await producer.send("create_key", create, { id });
console.log("created", created.key_id, created.key.status);

const again = await producer.send("create_key", create, { id });
console.log("again", again.key_id, again.replayed ? "the first outcome" : "another key");

// Here the server makes the token. It is told to this producer's inbox alone, once.
const rotated = await producer.send("rotate_key", { key_id: created.key_id, overlap: "1h" });
console.log("rotated", rotated.key_id, rotated.token.startsWith("sk_live_") ? "with its token" : "without a token");

await producer.send("revoke_key", { key_id: created.key_id, reason: "replaced" });
const { outcome, token: shown } = await producer.outcome(id);
console.log("revoked; the first command is", outcome, shown ? "and shows a token" : "and shows no token");

try {
  await producer.send("update_key", { key_id: created.key_id, name: "too late" });
} catch (err) {
  if (!(err instanceof CommandError)) throw err;
  console.log("refused", err.code);
}
await producer.close();
