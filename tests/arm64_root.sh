#!/bin/sh
# SPDX-License-Identifier: MIT
# Unpacks Debian's arm64 packages named into a directory, for cross builds: `tests/arm64_root.sh DIR PACKAGE...`. They are
# not installed beside the system's own, since some of them (check) cannot be; apt keeps its lists of arm64 in DIR too.
set -eu
root=$1
shift
[ "$(cat "$root/packages" 2>/dev/null)" != "$*" ] || exit 0
if ! command -v apt-get >/dev/null; then
    echo "not a Debian system: please unpack the arm64 equivalents into $root: $*"
    exit 1
fi
rm -rf "$root"
mkdir -p "$root/apt/lists/partial" "$root/apt/cache/archives/partial" "$root/apt/debs"
top=$(cd "$root" && pwd)
apt()
{
    apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=root \
        -o Dir::State::lists="$top/apt/lists" -o Dir::State::status=/dev/null -o Dir::Cache="$top/apt/cache" "$@"
}
echo "unpacking into $root: $*"
apt update
(cd "$root/apt/debs" && apt download "$@")
for deb in "$root"/apt/debs/*.deb; do
    dpkg -x "$deb" "$root"
done
rm -rf "$root/apt"
echo "$*" >"$root/packages"
