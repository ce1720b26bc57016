# What the benches share. Sourced by them with the number of runs; see README.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

imgbuild=$(realpath "${IMGBUILD:-target/release/imgbuild}")
place=$PWD/target/benches
archive=$place/archive
mkdir -p "$place"
work=$(mktemp -d -p "$place" run-XXXXXX)
mkdir "$work/results"
# Never across a mount: tools of the old way mount things in their trees.
trap 'rm -rf --one-file-system "$work"' EXIT

# away PATH...: takes what is there out of the way; it is removed in the end. Whoever makes files in ext4 without a journal goes one by
# one past the inodes that were removed in the last minute (Linux, fs/ext4/ialloc.c, recently_deleted): a build measured just after
# `rm -rf` of the one before took up to five times as much of the kernel's time.
away() {
    local path
    for path; do
        [ ! -e "$path" ] || mv -T "$path" "$(mktemp -d -p "$work" away-XXXXXX)/it"
    done
}

# What the old way needs in its image to make an initrd, and what mkosi installs unasked; every side gets it, so that all
# images have the same packages.
extra='"libpam-systemd", "systemd-resolved", "dracut-core", "dracut-network", "isc-dhcp-client", "cpio", "zstd"'
# What the edit "package added" adds, one a run.
additions=(tree lsof strace figlet pv hdparm time moreutils sl bc)

# needs PROGRAM=PACKAGE...: says what is to be installed.
needs() {
    local pair missing=()
    for pair in time=time "$@"; do
        type -P "${pair%=*}" >/dev/null || missing+=("${pair#*=}")
    done
    [ -x "$imgbuild" ] || { echo "no $imgbuild: run cargo build --profile bench, or set IMGBUILD" >&2; exit 3; }
    [ "$(id -u)" = 0 ] || { echo "run it as root: the old way needs it" >&2; exit 3; }
    [ ${#missing[@]} = 0 ] || { echo "install first: apt-get install --no-install-recommends ${missing[*]}" >&2; exit 3; }
}

# recipe DIRECTORY: examples/compute with the extra packages, from the host's archives.
recipe() {
    mkdir -p "$1"
    cp -a examples/compute/. "$1"
    rm -rf "$1/out" "$1/image.lock"
    sed -i "s/^install = \[\"chrony\"\]/install = [\"chrony\", $extra]/" "$1/image.toml"
    grep -q dracut-core "$1/image.toml"
}

# local_recipe DIRECTORY: the same from the local archive.
local_recipe() {
    recipe "$1"
    cp "$archive/key.gpg" "$1/keys/bench.gpg"
    sed -i "s|^source = \"host\".*|uri = \"file:$archive\"\nsuites = [\"bookworm\"]\ncomponents = [\"main\"]\nsigned-by = \"keys/bench.gpg\"|" "$1/image.toml"
    grep -q bench.gpg "$1/image.toml"
}

# One local archive with one suite, which all sides read: nobody waits for a mirror. Kept from run to run; remove
# target/benches/archive to have today's packages.
prepare_archive() {
    [ ! -e "$archive/key.gpg" ] || return 0
    echo "downloading packages and making a local archive of them ..." >&2
    rm -rf "$archive"
    recipe "$work/all"
    local names
    names=$(printf ', "%s"' "${additions[@]}")
    sed -i "s/^install = \[/&${names#, }, /" "$work/all/image.toml"
    "$imgbuild" -C "$work/all" --store "$work/store" build --until kernel >"$work/all.log" 2>&1 || { tail -20 "$work/all.log"; exit 4; }
    "$imgbuild" -C "$work/all" --store "$work/store" vendor "$work/vendor" >/dev/null 2>&1
    local release=$archive/dists/bookworm/Release index=main/binary-amd64/Packages suite file
    mkdir -p "${release%/*}/${index%/*}"
    for suite in "$work"/vendor/suites/*; do
        cp -a "$suite/pool" "$archive/" 2>/dev/null || continue
        (cd "$suite" && find pool -name '*.deb') >"$work/files"
        # Only the stanzas of the packages that are there.
        xz -dc "$suite"/dists/*/main/binary-amd64/Packages.xz | awk -v files="$work/files" '
            BEGIN { while ((getline name < files) > 0) there[name]; RS = ""; FS = "\n"; ORS = "\n\n" }
            { for (i = 1; i <= NF; i++) if ($i ~ /^Filename: / && substr($i, 11) in there) { print; break } }'
    done >"${release%/*}/$index"
    gzip -9nk "${release%/*}/$index"
    printf 'Origin: Debian\nSuite: bookworm\nCodename: bookworm\nDate: %s\nArchitectures: amd64\nComponents: main\nSHA256:\n' \
        "$(LC_ALL=C date -u +'%a, %d %b %Y %T UTC')" >"$release"
    for file in "$index" "$index.gz"; do
        (cd "${release%/*}" && echo " $(sha256sum <"$file" | cut -d' ' -f1) $(stat -c %s "$file") $file") >>"$release"
    done
    mkdir -m 700 "$work/gnupg"
    export GNUPGHOME=$work/gnupg
    gpg --batch --quiet --passphrase '' --quick-generate-key 'imgbuild benches' ed25519 sign never
    gpg --batch --quiet --clearsign --output "${release%/*}/InRelease" "$release"
    gpg --batch --quiet --export >"$work/key.gpg"
    gpgconf --kill all || true
    rm -rf "$work/store" "$work/all" "$work/vendor"
    mv "$work/key.gpg" "$archive/key.gpg"
}

# measure SERIES COMMAND...: runs it and keeps wall seconds, CPU seconds (user and system, of all its processes) and the
# peak of its largest process in MiB, as a line of results/SERIES. What it prints is in SERIES.log.
measure() {
    local series=$1 began ended
    shift
    sync
    began=$EPOCHREALTIME
    if ! command time -o "$work/time" -f '%U %S %M' "$@" >"$work/$series.log" 2>&1; then
        tail -30 "$work/$series.log" >&2
        echo "$series failed" >&2
        exit 4
    fi
    ended=$EPOCHREALTIME
    awk -v began="$began" -v ended="$ended" \
        'END { printf "%.3f %.2f %.0f\n", ended - began, $1 + $2, $3 / 1024 }' "$work/time" >>"$work/results/$series"
}

# add_up SERIES PART...: the run-wise sum of parts, and the largest of their peaks.
add_up() {
    local series=$1
    shift
    (cd "$work/results" && paste -d' ' "$@") |
        awk '{ wall = cpu = peak = 0; for (i = 1; i < NF; i += 3) { wall += $i; cpu += $(i + 1); if ($(i + 2) > peak) peak = $(i + 2) }
               print wall, cpu, peak }' >"$work/results/$series"
}

# median SERIES COLUMN: 1 wall, 2 CPU, 3 peak.
median() {
    cut -d' ' -f"$2" "$work/results/$1" | sort -g |
        awk '{ v[NR] = $1 } END { print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

# row SERIES TEXT: its medians.
row() {
    printf '%-58s %8.3f s wall %8.2f s CPU %6.0f MiB\n' "$2" "$(median "$1" 1)" "$(median "$1" 2)" "$(median "$1" 3)"
}

# ratio TEXT SERIES OTHER LIMIT: the ratio of two medians of wall time, and whether it is at most the limit.
ratio() {
    awk -v text="$1" -v a="$(median "$2" 1)" -v b="$(median "$3" 1)" -v limit="$4" \
        'BEGIN { r = a / b; printf "%-58s %8.3f   (expected <= %s)%s\n", text, r, limit, r <= limit ? "" : "   MISSED" }'
}

# packages_of ARCHIVE [DECOMPRESSOR]: name and version of each package that an image's own database calls installed.
packages_of() {
    ${2:-zstd} -dc "$1" | cpio -i --quiet --to-stdout var/lib/dpkg/status ./var/lib/dpkg/status 2>/dev/null |
        awk 'BEGIN { RS = ""; FS = "\n" }
             { name = version = ""; on = 0
               for (i = 1; i <= NF; i++) {
                   if ($i ~ /^Package: /) name = substr($i, 10)
                   if ($i ~ /^Version: /) version = substr($i, 10)
                   if ($i == "Status: install ok installed") on = 1
               }
               if (on) print name, version }' | sort
}

# same_packages ARCHIVE ARCHIVE: fails unless both have the same packages, and some.
same_packages() {
    packages_of "$1" >"$work/packages.1"
    packages_of "$2" >"$work/packages.2"
    [ "$(wc -l <"$work/packages.1")" -gt 100 ] || { echo "$1 has next to no packages" >&2; exit 4; }
    diff "$work/packages.1" "$work/packages.2" >&2 || { echo "$1 and $2 have other packages" >&2; exit 4; }
}

# tiny_image DIR COUNT: the tests' smallest recipe as image i0000, with COUNT synced files; the first is its init, so that no script runs.
tiny_image() {
    local i
    mkdir -p "$1/site" "$1/keys"
    cp tests/fixtures/tiny/* "$1/"
    echo 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGKRkbNXsrZuG0DY24YcLBn0bpOjO3bUTMXsZkVDp8Ty bench' >"$1/keys/admin.pub"
    sed -i 's/^name = .*/name = "i0000"/; /^\[postinstall\]/d; /^script = /d; s/^\[exclude\]/[sync]\nlists = ["files.synclist"]\n\n[exclude]/' "$1/image.toml"
    printf '%s\n' 'site/* -> /etc/site/' 'site/f00000 -> /usr/sbin/init' >"$1/files.synclist"
    for ((i = 0; i < $2; i++)); do printf 'setting %d\n' "$i" >"$1/site/f$(printf %05d "$i")"; done
    printf '#!/bin/sh\nexec sleep 1000000\n' >"$1/site/f00000"
    chmod 755 "$1/site/f00000"
}
