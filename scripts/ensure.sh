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

if command -v "$command" >/dev/null; then
  exit 0
fi

if [[ $EUID -ne 0 ]] || ! command -v apt-get >/dev/null; then
  echo "$command is missing and is needed here: install it (Debian: apt-get install ${packages[*]})" >&2
  exit 1
fi

echo "$command is missing: installing ${packages[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq >&2
apt-get install -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 "${packages[@]}" >&2

if ! command -v "$command" >/dev/null; then
  echo "${packages[*]} is installed, yet $command is still missing" >&2
  exit 1
fi
