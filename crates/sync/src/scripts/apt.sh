# Installs the package files of a folder on a Debian node, and nothing else: apt knows no repository here.
cd "$folder" || exit 1
DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true LC_ALL=C
export DEBIAN_FRONTEND DEBCONF_NONINTERACTIVE_SEEN LC_ALL
# An image may have left out what apt cannot do without, such as /usr/share/dpkg; dpkg can.
if command -v apt-get >/dev/null && apt-config dump >/dev/null 2>&1; then
    # Images leave out what they need not have at a start.
    mkdir -p apt/lists/partial apt/cache/archives/partial /var/lib/apt /var/log/apt || exit 1
    set -- -q -y --no-install-recommends --no-remove --allow-downgrades \
        -o APT::Sandbox::User=root -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State::Lists="$PWD/apt/lists" -o Dir::Cache="$PWD/apt/cache" -o DPkg::Lock::Timeout=60 \
        -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold
    # What would come besides, or go, ends it before anything is changed.
    apt-get "$@" --simulate install ./*.deb >simulated 2>&1 || { cat simulated; exit 1; }
    apt-get "$@" install ./*.deb || exit 1
    # Which came in only because others need them.
    [ -z "$automatic" ] || apt-mark auto $automatic >/dev/null || exit 1
elif command -v dpkg >/dev/null; then
    dpkg --force-confdef --force-confold -i ./*.deb || exit 1
else
    exit "$no_manager"
fi
