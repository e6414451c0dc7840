#!/bin/sh
# SPDX-License-Identifier: MIT
# Stages an install under build/stage and builds and runs an example from it, shared and static, with nothing but
# pkg-config; then uninstalls and checks that nothing is left.
set -eu
cc=${1:-cc}
stage=$PWD/build/stage
example=examples/01_one_layer.c
rm -rf "$stage"
make -s install DESTDIR="$stage" PREFIX=/usr >/dev/null
export PKG_CONFIG_SYSROOT_DIR="$stage" PKG_CONFIG_PATH="$stage/usr/lib/pkgconfig"
PKG_CONFIG_SYSTEM_INCLUDE_PATH= PKG_CONFIG_SYSTEM_LIBRARY_PATH=
export PKG_CONFIG_SYSTEM_INCLUDE_PATH PKG_CONFIG_SYSTEM_LIBRARY_PATH
flags() { pkg-config "$@" lorank | sed "s|-I/usr/include|-I$stage/usr/include|; s|-L/usr/lib |-L$stage/usr/lib |"; }

# shellcheck disable=SC2046
$cc -o build/stage-shared "$example" $(flags --cflags --libs) -lm
LD_LIBRARY_PATH="$stage/usr/lib" build/stage-shared >build/stage-shared.out
# Static: lorank's own archive, its dependencies shared, as a distribution's packages allow.
static=$(flags --cflags --libs --static | sed 's/-llorank/-l:liblorank.a/')
# shellcheck disable=SC2086
$cc -o build/stage-static "$example" $static
build/stage-static >build/stage-static.out
readelf -d build/stage-shared | grep -q 'NEEDED.*liblorank.so.0' || { echo "the shared build does not need liblorank.so.0"; exit 1; }
readelf -d build/stage-static | grep -q 'liblorank' && { echo "the static build needs a shared lorank"; exit 1; }
diff build/stage-shared.out build/stage-static.out
LD_LIBRARY_PATH="$stage/usr/lib" "$stage/usr/bin/lorank" --version
if LD_LIBRARY_PATH="$stage/usr/lib" "$stage/usr/bin/lorank" --help >/dev/full 2>/dev/null; then echo "the command does not notice a full disk"; exit 1; fi
# Every option that a command's help names stands in the manual page.
for command in inspect convert merge diff resize replay report; do
  LD_LIBRARY_PATH="$stage/usr/lib" "$stage/usr/bin/lorank" $command --help | grep -o -e '--[a-z][a-z-]*' | sort -u | while read -r option; do
    [ "$option" = --output ] || grep -q -- "Fl -${option#--}" "$stage/usr/share/man/man1/lorank.1" ||
      { echo "docs/lorank.1 does not know $option of $command"; exit 1; }
  done
done
make -s uninstall DESTDIR="$stage" PREFIX=/usr >/dev/null
left=$(find "$stage" -type f -o -type l)
[ -z "$left" ] || { echo "uninstall left: $left"; exit 1; }
echo "install: ok, shared and static"
