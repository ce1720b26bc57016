# What runs on a node. It needs tar, and dd, stat, sha256sum, readlink, base64, mkfifo and tail of GNU or BusyBox.
# Names come and go as octal escapes or in base64, so that no shell reads them.
set -f
umask 077
LC_ALL=C
PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH
export LC_ALL PATH
exec 3<&0
child= feed= watch= work= label= bad=
newline='
'
state=/var/lib/imgbuild/sync
[ -w /var/lib ] || state=/run/imgbuild/sync
[ -e /sys/fs/selinux/enforce ] && label=1
say() { printf '%s\n' "$*"; }
back() {
    case $1 in
    *\\*) v=$(printf '%b.' "$1") && v=${v%.} ;;
    *) v=$1 ;;
    esac
}
# Takes a run's directory away, with what it put beside destinations.
drop() {
    if [ -f "$1/aside" ]; then
        while read -r line; do
            back "$line"
            rm -f "$v"
        done <"$1/aside"
    fi
    rm -rf "$1"
    rmdir "$state/pending" "$state/append" "$state" "${state%/*}" 2>/dev/null
}
clean() {
    trap '' HUP INT TERM PIPE
    for process in $child $feed; do
        kill -9 "$process" 2>/dev/null
        wait "$process" 2>/dev/null
    done
    [ -z "$watch" ] || kill "$watch" 2>/dev/null
    [ -z "$work" ] || drop "$work"
}
# Ends all when the time is over, whatever became of the connection. It comes before the traps: a signal meets it or them.
(
    exec </dev/null >/dev/null 2>&1 3<&-
    trap 'kill $! 2>/dev/null; exit' TERM
    sleep "$seconds" &
    wait $!
    kill -TERM $$
) &
watch=$!
trap clean EXIT
trap 'exit 143' HUP INT TERM
trap 'exit 141' PIPE
say "imgbuild-sync 1 $nonce $(id -u) $state $$"
for tool in tar dd stat sha256sum readlink base64 tr tail mkfifo mv rm mkdir; do
    command -v "$tool" >/dev/null || { say "x $tool"; exit 1; }
done
say ready
# What is at a path: kind, path, name below it if it is a directory.
look() {
    back "$2"
    p=$v moved=
    if [ -d "$p" ]; then
        [ "$1" != d ] || { r=d; return; }
        [ "$3" != - ] || { r=D; return; }
        back "$3"
        p=$p/$v moved=1
        [ ! -d "$p" ] || { r=D; return; }
    fi
    if [ -L "$p" ] && [ -e "$p" ]; then
        p=$(readlink -f "$p"; printf .)
        p=${p%??} moved=1
    fi
    if [ -f "$p" ]; then r=f; return; fi
    if [ -L "$p" ]; then r=l; return; fi
    if [ -e "$p" ]; then r=o; return; fi
    q=$p r=n
    while q=${q%/*} && [ -n "$q" ]; do
        [ ! -d "$q" ] || return
        if [ -e "$q" ] || [ -L "$q" ]; then p=$q r=A moved=1; return; fi
    done
}
encoded() { base64 | tr -d '\n'; }
flush() {
    say "F $#"
    [ $# -eq 0 ] || stat -L -c '%a %u %g' -- "$@"
    say .
    [ $# -eq 0 ] || sha256sum -- "$@"
    say .
}
sweep() {
    set +f
    for left in "$state"/run.*; do
        [ -d "$left" ] || continue
        grep -q imgbuild-sync "/proc/${left##*.}/cmdline" 2>/dev/null || drop "$left"
    done
    set -f
}
digest() {
    v=$(sha256sum 2>/dev/null)
    v=${v%% *}
}
# Index, file put aside, destination, its digest, the digest of what it replaces. Most are compared by one process.
verify() {
    sums=
    [ -s "$work/sums" ] && sha256sum -c "$work/sums" >/dev/null 2>&1 && sums=1
    rm -f "$work/sums"
    while [ $# -ge 5 ]; do
        case $sums$2 in
        1*[\\"$newline"]* | /*)
            v=
            [ ! -f "$2" ] || digest <"$2"
            [ "$v" = "$4" ] || { say "b $1"; bad=1; }
            ;;
        esac
        if [ "$5" != - ]; then
            v=
            [ ! -f "$3" ] || digest <"$3"
            [ "$v" = "$5" ] || { say "g $1"; bad=1; }
        fi
        shift 5
    done
}
place() {
    while [ $# -ge 5 ]; do
        fresh=1
        [ ! -e "$3" ] || fresh=
        [ -z "$label" ] || [ -n "$fresh" ] || chcon --reference="$3" "$2" 2>/dev/null
        if [ ! -d "$3" ] && mv -f "$2" "$3"; then
            [ -z "$label" ] || [ -z "$fresh" ] || restorecon "$3" 2>/dev/null
            say "y $1"
        else
            say "n $1"
        fi
        shift 5
    done
}
unpack() {
    rm -f "$work/pipe"
    mkfifo "$work/pipe" || return
    dd iflag=fullblock bs=10240 count="$1" <&3 >"$work/pipe" 2>/dev/null &
    feed=$!
    tar -xpf - -C / <"$work/pipe" &
    child=$!
    wait "$child"
    r=$?
    child=
    wait "$feed"
    feed=
    [ "$r" -eq 0 ] || { say "t $r"; bad=1; }
}
# Index, file, interpreter and its argument. A process that the script leaves running may hold its output open.
execute() {
    back "$2"
    file=$v
    back "$3"
    program=$v
    back "$4"
    rm -f "$work/pipe"
    mkfifo "$work/pipe" || return
    tail -c 4096 <"$work/pipe" >"$work/out" &
    feed=$!
    (
        exec 3<&-
        cd / && umask 022 && NODE=$node && export NODE || exit 126
        [ -n "$v" ] && exec "$program" "$v" "$file"
        exec "$program" "$file"
    ) </dev/null >"$work/pipe" 2>&1 &
    child=$!
    wait "$child"
    r=$?
    child=
    tries=0
    while [ "$tries" -lt 20 ] && [ -e "/proc/$feed/status" ] && ! grep -q '^State:.Z' "/proc/$feed/status"; do
        sleep 0.05 2>/dev/null || sleep 1
        tries=$((tries + 1))
    done
    kill "$feed" 2>/dev/null
    wait "$feed" 2>/dev/null
    feed=
    say "e $1 $r"
    base64 <"$work/out"
    say .
}
set --
while read -r c a b d e f; do
    case $c in
    a)
        look "$b" "$d" "$e"
        # BusyBox prints a line feed of a name as it is.
        case $r$p in f*"$newline"*) odd=1 ;; *) odd= ;; esac
        [ -z "$odd" ] || { flush "$@"; set --; }
        if [ -n "$moved" ]; then say "$r $a $(printf %s "$p" | encoded)"; else say "$r $a -"; fi
        if [ "$r" = f ]; then
            if [ -n "$odd" ]; then
                say 'F 1'
                stat -L -c '%a %u %g' -- "$p"
                say .
                sha256sum <"$p"
                say .
            else
                set -- "$@" "$p"
            fi
            if [ "$b" = c ]; then
                say "c $a"
                base64 <"$p"
                say .
                if [ -f "$state/append/$f" ]; then
                    say "k $a"
                    base64 <"$state/append/$f"
                    say .
                fi
            fi
        fi
        [ $# -lt 200 ] || { flush "$@"; set --; }
        ;;
    i)
        back "$b"
        n=-
        if [ "$a" = u ]; then
            n=$(id -u "$v" 2>/dev/null) || n=-
        else
            while IFS=: read -r q r p r; do
                [ "$q" != "$v" ] || { n=$p; break; }
            done </etc/group
        fi
        say "i $a $(printf %s "$v" | encoded) $n"
        ;;
    q) [ ! -e "$state/pending/$a" ] || say "q $a" ;;
    .)
        flush "$@"
        set --
        say ok
        ;;
    s) sweep ;;
    o)
        work=$state/run.$$
        mkdir -p "$work" && : >"$work/aside" || { work=; say no; exit 1; }
        say "o $work"
        ;;
    m)
        back "$b"
        [ -d "$v" ] || { (umask 022 && mkdir -p "$v") && chown "$e" "$v" && chmod "$d" "$v"; } || say "n $a"
        ;;
    k) mkdir -p "$state/append" ;;
    p) mkdir -p "$state/pending" && : >"$state/pending/$a" ;;
    w)
        say "$b" >>"$work/aside"
        back "$b"
        b=$v
        case $b in *[\\"$newline"]*) ;; *) printf '%s  %s\n' "$e" "$b" >>"$work/sums" ;; esac
        back "$d"
        set -- "$@" "$a" "$b" "$v" "$e" "$f"
        ;;
    t) unpack "$a" ;;
    v)
        [ -n "$bad" ] || verify "$@"
        [ -n "$bad" ] || place "$@"
        set --
        bad=
        say ok
        ;;
    e)
        execute "$a" "$d" "$e" "$f"
        [ "$r" -ne 0 ] || [ "$b" = - ] || rm -f "$state/pending/$b"
        ;;
    u)
        back "$a"
        if [ -x "$v" ]; then say 'u yes'; else say 'u no'; fi
        ;;
    h)
        back "$a"
        say h
        [ ! -f "$v" ] || base64 <"$v"
        say .
        ;;
    l)
        say l
        case $a in
        dpkg) dpkg-query -W -f '${db:Status-Abbrev}\t${Package}\t${Version}\t${Architecture}\n' </dev/null 2>&1 ;;
        rpm) rpm -qa --qf 'ii\t%{NAME}\t%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}\t%{ARCH}\n' </dev/null 2>&1 ;;
        esac
        r=$?
        say .
        say "l $r"
        ;;
    z) exit 0 ;;
    esac
done
exit 1
