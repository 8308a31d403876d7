#!/bin/sh
# The few system programs that Isthmus needs. On Debian as root they are installed; elsewhere they are named.
set -eu

missing=""
need() { # PROGRAM PACKAGE
  command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ] || missing="$missing $2"
}
need ip iproute2
need nft nftables
need unshare util-linux
need nsenter util-linux
need mount mount
"$(dirname "$0")/python.sh" >/dev/null || missing="$missing python3-venv"

[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "Installing the system packages that are missing:$missing" >&2
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
  echo "These system packages are missing:$missing" >&2
  echo "Install them, on Debian or Ubuntu with: sudo apt-get install$missing" >&2
  exit 1
fi
