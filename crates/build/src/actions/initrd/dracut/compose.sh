#!/bin/bash
# Runs the release's dracut in the tools root, on what imgbuild put into /imgbuild, and leaves an archive that is not
# compressed. Options are taken by what this dracut knows, never by its version.
#
#   /imgbuild/lib/modules/RELEASE   the kernel's modules that the initrd is to have
#   /imgbuild/module                imgbuild's own dracut module
#   /imgbuild/conf                  the recipe's files of dracut.conf.d
#   /imgbuild/modprobe.d            settings of drivers, from the image
#   /imgbuild/bin                   stand-ins for programs that would tell of the build host
#   /imgbuild/out/initrd            what comes out
#
# Arguments: the kernel's release, modules to add, modules to omit.
set -eu
release=$1 add=$2 omit=$3
base=
for base in "${dracutbasedir:-}" /usr/lib/dracut /usr/share/dracut; do
    [ -z "$base" ] || [ ! -d "$base/modules.d" ] || break
    base=
done
if [ -z "$base" ] || ! command -v dracut >/dev/null; then
    echo "the tools root has no dracut"
    exit 1
fi
cp -r /imgbuild/module "$base/modules.d/99imgbuild"
mkdir -p /etc/dracut.conf.d /etc/modprobe.d /var/tmp
for file in /imgbuild/conf/* /imgbuild/modprobe.d/*; do
    [ -e "$file" ] || continue
    case $file in
    */conf/*) cp "$file" /etc/dracut.conf.d/ ;;
    *) cp "$file" /etc/modprobe.d/ ;;
    esac
done
# Nothing of this host, and nothing that imgbuild does itself: stripping, compressing, and putting microcode in front. As
# options too, below, where this dracut has them: they count more than any file. The oldest have no --no-hostonly.
cat >/etc/dracut.conf.d/zz-imgbuild.conf <<'END'
hostonly=""
hostonly_cmdline="no"
early_microcode="no"
do_strip="no"
do_prelink="no"
do_hardlink="no"
compress="cat"
uefi="no"
reproducible="yes"
END
# A module that a site adds may read them; this host's, or the tools root's own, must not get in.
rm -f /etc/machine-id /var/lib/dbus/machine-id /etc/hostname
: >/etc/machine-id

depmod -b /imgbuild "$release"

help=$(dracut --help 2>&1 || :)
knows() {
    printf '%s\n' "$help" | grep -qE -- "(^|[[:space:],])$1([[:space:],=]|\$)"
}
set -- --force
for option in --no-hostonly --no-hostonly-cmdline --no-hostonly-default-device --no-hostonly-i18n --no-early-microcode \
    --nostrip --noprelink --nohardlink --no-compress --no-uefi --nofscks --nomdadmconf --nolvmconf --reproducible; do
    if knows "$option"; then
        set -- "$@" "$option"
    fi
done
! knows --fwdir || set -- "$@" --fwdir /imgbuild/no-firmware
mkdir -p /imgbuild/tmp /imgbuild/out /imgbuild/no-firmware
rm -f /imgbuild/out/initrd
[ -z "$omit" ] || set -- "$@" --omit "$omit"
dracut "$@" --tmpdir /imgbuild/tmp --kmoddir "/imgbuild/lib/modules/$release" --add "$add" \
    /imgbuild/out/initrd "$release"
[ -s /imgbuild/out/initrd ]
