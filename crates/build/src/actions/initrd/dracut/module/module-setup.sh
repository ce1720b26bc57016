#!/bin/bash
# imgbuild's dracut module: the image is fetched, checked and unpacked by the program that is the init of imgbuild's
# own initrds. It brings its own DHCP client, so none of dracut's network modules is needed.

# Only where it is asked for.
check() {
    return 255
}

depends() {
    echo base kernel-modules
}

installkernel() {
    # All of the reduced tree: the names stand in a file, because file names of modules and their names may differ.
    # shellcheck disable=SC2046
    hostonly='' instmods $(cat "$moddir/drivers")
}

install() {
    inst_simple "$moddir/imgbuild-init" /usr/bin/imgbuild-init
    chmod 0755 "$initdir/usr/bin/imgbuild-init"
    if [ -e "$moddir/ca.pem" ]; then
        inst_simple "$moddir/ca.pem" /etc/imgbuild/ca.pem
    fi
    # What `rd.emergency=reboot` calls. Where the release has a program, dracut's own module takes that.
    if ! command -v reboot > /dev/null; then
        ln -s imgbuild-init "$initdir/usr/bin/reboot"
    fi
    inst_hook cmdline 95 "$moddir/parse-imgbuild.sh"
    inst_hook mount 10 "$moddir/mount-imgbuild.sh"
    # What the kernel's command line says comes after this and counts more.
    mkdir -p "$initdir/etc/cmdline.d"
    echo "rd.shell=0 rd.emergency=reboot" > "$initdir/etc/cmdline.d/90-imgbuild.conf"
    # It would wait for a disk that these nodes do not have.
    rm -f "$initdir/usr/lib/systemd/system-generators/systemd-gpt-auto-generator" \
        "$initdir/lib/systemd/system-generators/systemd-gpt-auto-generator"
}
