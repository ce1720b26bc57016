# Installs the package files of a folder on an RPM node, and nothing else. Their digests are those of the lock.
cd "$folder" || exit 1
LC_ALL=C
export LC_ALL
if command -v zypper >/dev/null; then
    zypper --non-interactive --no-refresh --no-remote --no-gpg-checks install --no-recommends --oldpackage \
        --allow-unsigned-rpm ./*.rpm
    # 102 and 103 say that something should be started again.
    case $? in 0 | 102 | 103) ;; *) exit 1 ;; esac
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
