// Makes a token here, in the form of the server's: sk_live_ <id 16> <secret 32>
// <checksum 6>. Only its SHA-256 is sent, so no answer can be lost with it.
import { createHash, randomInt } from "node:crypto";

const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

export function newToken(environment) {
  let text = `sk_${environment}_`;
  for (let i = 0; i < 48; i++) text += alphabet[randomInt(62)]; // crypto's, without bias
  return text + checksum(text);
}

export function sha256(token) {
  return createHash("sha256").update(token).digest("hex");
}

// checksum is the CRC-32 (IEEE) of all before it, in base 62.
function checksum(text) {
  let crc = ~0;
  for (const byte of Buffer.from(text)) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  let n = ~crc >>> 0;
  let out = "";
  for (let i = 0; i < 6; i++, n = Math.floor(n / 62)) out = alphabet[n % 62] + out;
  return out;
}
