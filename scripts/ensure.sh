#!/usr/bin/env bash
# ensure.sh COMMAND PACKAGE...
#
# Makes sure that COMMAND can be run. Where it is missing, installs the Debian
# packages named if that is possible (root, apt-get); otherwise says what to
# install and fails, because a test that needs COMMAND is never skipped.
set -euo pipefail

command=$1
shift
packages=("$@")

# Debian keeps the programs of a PostgreSQL server out of the PATH.
have() {
  command -v "$command" >/dev/null || compgen -G "/usr/lib/postgresql/*/bin/$command" >/dev/null
}

if have; then
  exit 0
fi

if [[ $EUID -ne 0 ]] || ! command -v apt-get >/dev/null; then
  echo "$command is missing and is needed here: install it (Debian: apt-get install ${packages[*]})" >&2
  exit 1
fi

echo "$command is missing: installing ${packages[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
# Tests start servers of their own: Debian need not make one of its own and run it.
if [[ " ${packages[*]} " == *" postgresql "* && ! -e /etc/postgresql-common/createcluster.conf ]]; then
  mkdir -p /etc/postgresql-common
  echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
fi
apt-get update -qq >&2
apt-get install -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 "${packages[@]}" >&2

if ! have; then
  echo "${packages[*]} is installed, yet $command is still missing" >&2
  exit 1
fi
