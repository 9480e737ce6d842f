#!/usr/bin/env bash
# A producer with nothing but the nats command line: creates a key, rotates it with an
# overlap, revokes the old one.
#
#   NATS_URL, NATS_PASSWORD   where, and the token of a management key that holds
#                             keyledger.commands and keyledger.keys:write
#   ACCOUNT                   whose keys; default: default
#   ORDER                     names the commands: the same again is not done again
set -euo pipefail

account=${ACCOUNT:-default} order=${ORDER:-4711}
export NATS_USER=key_${NATS_PASSWORD:9:16} # a management key's id is in its token
nats=(nats --inbox-prefix "_INBOX_$NATS_USER")

# send COMMAND ID DATA publishes a command and prints where the stream stored it: from
# then on it is carried out, even if nobody is there to do it yet. Arguments: the reply
# inbox, if there is one, behind them.
send() {
  local event="{\"specversion\":\"1.0\",\"id\":\"$2\",\"source\":\"nats-cli\",\"type\":\"keyledger.command.$1.v1\",\"data\":$3}"
  "${nats[@]}" request --raw --no-templates ${4:+--header "Keyledger-Reply:$4"} \
    "keyledger.commands.$account.$NATS_USER.$1" "$event" | grep .
}

# outcome ID prints what became of a command, when it is there.
outcome() {
  local answer
  for _ in {1..100}; do
    answer=$("${nats[@]}" request --raw "\$JS.API.DIRECT.GET.KEYLEDGER_OUTCOMES.keyledger.outcomes.$account.$1" "")
    if [[ -n $answer ]]; then
      echo "$answer"
      return
    fi
    sleep 0.1
  done
  echo "no outcome of $1 yet" >&2
  return 1
}

# member NAME prints a member of a flat JSON object. With jq: jq -r .NAME
member() { sed -E "s/.*\"$1\":\"([^\"]*)\".*/\1/"; }

# The token is made here, and only its SHA-256 is sent. Any secret of enough chance
# will do; keep it before you send.
token=acme_$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
if [[ -n ${TOKEN_FILE:-} ]]; then # the same again: a repeat must say the same
  [[ -e $TOKEN_FILE ]] || (umask 077 && echo "$token" >"$TOKEN_FILE")
  token=$(<"$TOKEN_FILE")
fi
hash=$(printf %s "$token" | sha256sum | cut -c1-64)

send create_key "$order-create" \
  "{\"name\":\"Production Server\",\"environment\":\"live\",\"scopes\":[\"invoices:read\"],\"token_sha256\":\"$hash\"}"
created=$(outcome "$order-create")
echo "$created"
key=$(member key_id <<<"$created")

send rotate_key "$order-rotate" "{\"key_id\":\"$key\",\"overlap\":\"1h\"}"
outcome "$order-rotate"

send revoke_key "$order-revoke" "{\"key_id\":\"$key\",\"reason\":\"replaced\"}"
outcome "$order-revoke"
