#!/bin/sh
# Written by imgbuild: makes this node's ssh host keys at each start, before sshd. Those that sshd's configuration names; where it
# names none, and nobody has brought a key, all that ssh-keygen knows.
ssh=${1-/etc/ssh}
keys=$(sed -n 's/^[[:space:]]*[Hh][Oo][Ss][Tt][Kk][Ee][Yy][[:space:]=]\{1,\}"\{0,1\}\([^"[:space:]]*\).*/\1/p' \
    "$ssh/sshd_config" "$ssh"/sshd_config.d/*.conf 2>/dev/null)
if [ -z "$keys" ]; then
    [ ! -e "$ssh/ssh_host_ed25519_key" ] || exit 0
    exec ssh-keygen -A
fi
failed=0
for key in $keys; do
    case $key in
    */ssh_host_*_key) kind=${key##*/ssh_host_} && kind=${kind%_key} ;;
    # A key of the site, of a kind that its name does not say.
    *) continue ;;
    esac
    [ -e "$key" ] || ssh-keygen -q -t "$kind" -N '' -f "$key" || failed=1
done
exit "$failed"
