#!/usr/bin/env bash
# Makes sure that the tests find a PostgreSQL server to start: in the path or in
# Debian's directories. Where there is none, installs Debian's package if that is
# possible, without the cluster that it would start on its own.
set -euo pipefail

if [[ -n ${KEYLEDGER_TEST_DATABASE_URL:-} ]] || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; then
  exit 0
fi
if [[ $EUID -eq 0 && -d /etc && ! -e /etc/postgresql-common/createcluster.conf ]] && command -v apt-get >/dev/null && ! command -v initdb >/dev/null; then
  mkdir -p /etc/postgresql-common
  echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
fi
if [[ $EUID -eq 0 ]] && command -v apt-get >/dev/null && ! command -v initdb >/dev/null; then
  echo "PostgreSQL is missing: installing postgresql" >&2
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq >&2
  apt-get install -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold postgresql >&2
  compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null && exit 0
fi
exec "$(dirname "${BASH_SOURCE[0]}")/ensure.sh" initdb postgresql
