// A producer: sends commands to keyledger over NATS and waits for what becomes of them.
import { randomUUID } from "node:crypto";
import { connect, headers } from "@nats-io/transport-node";

const ackTimeout = 5_000; // for the stream to store a command
const attempts = 5;

export class CommandError extends Error {
  constructor(outcome) {
    super(`${outcome.message} (${outcome.code})`);
    this.code = outcome.code; // the same codes as over HTTP
    this.outcome = outcome;
  }
}

export class Producer {
  // token: of a management key with keyledger.commands and keyledger.keys:write.
  static async connect({ servers, token, account = "default" }) {
    // A management key's id is in its token: kl_admin_<id 16>…
    const id = "key_" + token.slice("kl_admin_".length, "kl_admin_".length + 16);
    const nc = await connect({
      servers, user: id, pass: token,
      inboxPrefix: `_INBOX_${id}`, // the only inbox that this key may listen to
      ignoreAuthErrorAbort: true, // while no server of keyledger is up, nobody is let in
      maxReconnectAttempts: -1,
    });
    return new Producer(nc, id, account);
  }

  constructor(nc, id, account) {
    this.nc = nc;
    this.id = id;
    this.account = account;
  }

  // Sends a command and returns its outcome; with `key`, and with `token` if the server
  // made one. Sent again under the same id, a command is not carried out again, and the
  // answer is the first one: keep the id before you send, and this may fail anywhere.
  async send(command, data, { id = randomUUID(), timeout = 30_000 } = {}) {
    const inbox = `_INBOX_${this.id}.${randomUUID()}`;
    const replies = this.nc.subscribe(inbox, { max: 1, timeout });
    const reply = (async () => {
      for await (const msg of replies) return msg.json();
    })().catch(() => undefined); // none in time
    try {
      await this.#store(command, data, id, inbox);
      const outcome = (await reply) ?? (await this.outcome(id));
      if (!outcome) throw new Error(`no outcome yet: ask for ${id} later`);
      if (outcome.outcome !== "done") throw new CommandError(outcome);
      return outcome;
    } finally {
      replies.unsubscribe();
    }
  }

  // Publishes a command until the stream has stored it.
  async #store(command, data, id, inbox) {
    const event = {
      specversion: "1.0", id, source: "node-example",
      type: `keyledger.command.${command}.v1`, datacontenttype: "application/json", data,
    };
    const h = headers();
    h.set("Keyledger-Reply", inbox); // JetStream takes the message's own reply subject
    for (let n = 1; ; n++) {
      try {
        const subject = `keyledger.commands.${this.account}.${this.id}.${command}`;
        const ack = await this.nc.request(subject, JSON.stringify(event), { headers: h, timeout: ackTimeout });
        const { error } = ack.json();
        if (error) throw new Error(error.description);
        return;
      } catch (err) {
        if (n === attempts) throw err; // it may be stored or not: send it again under its id
      }
    }
  }

  // What became of a command, without any token; undefined if that is not known yet.
  async outcome(id) {
    const subject = `keyledger.outcomes.${this.account}.${id}`;
    const msg = await this.nc.request(`$JS.API.DIRECT.GET.KEYLEDGER_OUTCOMES.${subject}`);
    if (msg.headers?.get("Status")) return undefined; // 404
    const outcome = msg.json();
    return outcome.producer === this.id ? outcome : undefined; // ids of others may be the same
  }

  close() {
    return this.nc.drain();
  }
}
