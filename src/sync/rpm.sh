# Installs the package files of a folder on an RPM node, and nothing else. Their digests are those of the lock.
cd "$folder" || exit 1
LC_ALL=C
export LC_ALL
if command -v zypper >/dev/null; then
    zypper --non-interactive --no-refresh --no-remote --no-gpg-checks install --no-recommends --oldpackage \
        --allow-unsigned-rpm ./*.rpm || exit 1
elif command -v dnf >/dev/null; then
    dnf -y --disablerepo='*' --setopt=install_weak_deps=False --setopt=localpkg_gpgcheck=False install ./*.rpm || exit 1
elif command -v yum >/dev/null; then
    yum -y --disablerepo='*' install ./*.rpm || exit 1
elif command -v rpm >/dev/null; then
    rpm -U --oldpackage ./*.rpm || exit 1
else
    exit "$no_manager"
fi
: "$automatic"
