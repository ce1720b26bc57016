# What runs on a node. It needs tar, and dd, stat, sha256sum, readlink, base64, mkfifo and tail of GNU or BusyBox.
# Names come and go as octal escapes or in base64, so that no shell reads them.
set -f
umask 077
LC_ALL=C
PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH
export LC_ALL PATH
exec 3<&0
child= feed= watch= work= label= bad= near= ours= theirs=
newline='
'
state=/var/lib
[ -w /var/lib ] || state=/run
state=$(cd "$state" && pwd -P)/imgbuild/sync
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
# Whether a directory is another user's: then what is in it may change at any time. Each is looked at once.
foreign() {
    case $ours in *"//$1//"*) return 1 ;; esac
    case $theirs in *"//$1//"*) return 0 ;; esac
    owner=$(stat -c '%u %a' -- "$1" 2>/dev/null)
    case $owner in
    '0 '*[2367])
        # Anyone may write there: only with the sticky bit is a name its owner's.
        if [ -k "$1" ]; then ours=$ours//$1//; return 1; fi
        ;;
    '0 '*) ours=$ours//$1//; return 1 ;;
    esac
    theirs=$theirs//$1//
}
# Where a path leads, in p. A link is followed where root made it and no directory on the way is another user's (kept in alien);
# any other link is what p names in the end, with planted=1 if it is at the end of the path and planted=2 before that. A link that
# leads nowhere is such an end, too: planted=3 before the end of the path.
walk() {
    p= todo=$1 alien= planted= links=0
    if [ -n "$near" ] && [ "${1%/*}" = "$near" ] && [ ! -L "$1" ]; then
        case ${1##*/} in '' | . | ..) ;; *) p=$nearp/${1##*/} alien=$nearalien; return ;; esac
    fi
    while todo=${todo#"${todo%%[!/]*}"} && [ -n "$todo" ]; do
        name=${todo%%/*}
        case $todo in */*) todo=${todo#*/} ;; *) todo= ;; esac
        case $name in
        .) continue ;;
        ..) p=${p%/*}; continue ;;
        esac
        p=$p/$name
        if [ -L "$p" ]; then
            [ -z "${todo##/}" ] && final=1 || final=2
            if [ -n "$alien" ] || [ "$(stat -c %u -- "$p" 2>/dev/null)" != 0 ]; then planted=$final; return; fi
            links=$((links + 1))
            if [ ! -e "$p" ] || [ "$links" -gt 40 ]; then
                [ "$final" = 1 ] || planted=3
                return
            fi
            name=$(readlink "$p"; printf .)
            name=${name%??}
            todo=$name/$todo
            case $name in /*) p= ;; *) p=${p%/*} ;; esac
        elif [ -d "$p" ]; then
            ! foreign "$p" || alien=$p
        fi
    done
    near=${1%/*} nearp=${p%/*} nearalien=$alien
    [ ! -d "$p" ] && [ -n "$near" ] && [ "${1##*/}" = "${p##*/}" ] && [ "$links" -eq 0 ] || near=
}
# What is at a path: kind, path, name below it if it is a directory.
look() {
    back "$2"
    w=$v moved=
    walk "$w"
    if [ -d "$p" ] && [ -z "$planted" ]; then
        [ "$1" != d ] || { r=d; return; }
        [ "$3" != - ] || { r=D; return; }
        back "$3"
        w=$p/$v moved=1
        walk "$w"
        [ -n "$planted" ] || [ ! -d "$p" ] || { r=D; return; }
    fi
    [ "$p" = "$w" ] || moved=1
    case $planted$1 in
    1f) r=l; return ;;
    3?) r=A moved=1; return ;;
    ??) r=P moved=1; return ;;
    esac
    if [ -f "$p" ] && [ ! -L "$p" ]; then r=f; return; fi
    if [ -L "$p" ]; then r=l; return; fi
    if [ -e "$p" ]; then r=o; return; fi
    q=$p r=n
    while q=${q%/*} && [ -n "$q" ]; do
        [ ! -d "$q" ] || return
        if [ -e "$q" ] || [ -L "$q" ]; then p=$q r=A moved=1; return; fi
    done
}
# Whether a place is still where it was, with all that leads there.
still() {
    near=
    walk "$1"
    [ "$p" = "$1" ] && [ "${planted:-1}" = 1 ]
}
# Opens a file for what is added to, without following a link that came there meanwhile.
opened() { exec 4<"$1" && [ "$(readlink "/proc/$$/fd/4"; printf .)" = "$1$newline." ]; }
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
# Puts a file into its place. A directory of another user is held while it is done: it may be a link a moment later.
move() {
    if [ -z "$alien" ]; then
        mv -f "$1" "$2"
    else
        (cd "${2%/*}" && [ "$(pwd -P)" = "${2%/*}" ] && [ ! -d "./${2##*/}" ] && mv -f "./${1##*/}" "./${2##*/}")
    fi
}
# Makes a directory below q, which is there, with its owner and mode. Each is entered before anything is made or changed in it: in a
# directory of another user it may be a link a moment later.
make() {
    (
        umask 022
        at=$q rest=${1#"$q"}
        cd "$q/" || exit 1
        while [ "$(pwd -P; printf .)" = "${at:-/}$newline." ]; do
            rest=${rest#"${rest%%[!/]*}"}
            [ -n "$rest" ] || { chown "$2" . && chmod "$3" .; exit; }
            name=${rest%%/*}
            case $rest in */*) rest=${rest#*/} ;; *) rest= ;; esac
            [ -d "./$name" ] || mkdir "./$name" || exit 1
            cd "./$name" || exit 1
            at=$at/$name
        done
        exit 1
    )
}
place() {
    while [ $# -ge 5 ]; do
        fresh=1
        [ ! -e "$3" ] || fresh=
        [ -z "$label" ] || [ -n "$fresh" ] || chcon --reference="$3" "$2" 2>/dev/null
        # A link to a directory is not followed here: what is followed was followed before.
        if still "$3" && { [ ! -d "$3" ] || { [ -L "$3" ] && rm -f "$3"; }; } && move "$2" "$3"; then
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
                opened "$p" || exit 1
                say "c $a"
                base64 <&4
                exec 4<&-
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
            # As for users, those of a directory service count.
            if [ "$n" = - ] && q=$(getent group -- "$v" 2>/dev/null); then
                q=${q#*:*:}
                n=${q%%:*}
            fi
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
        # Above what is not there yet.
        q=$v
        while [ ! -d "$q" ] && [ ! -L "$q" ] && [ -n "$q" ]; do q=${q%/*}; done
        { [ -z "$q" ] || { [ ! -L "$q" ] && still "$q"; }; } && { [ -d "$v" ] || make "$v" "$e" "$d"; } || say "n $a"
        ;;
    k) mkdir -p "$state/append" ;;
    # Another run may remove the empty folder in between. What fails five times ends this shell with its reason.
    p)
        for _ in 1 2 3 4 5; do mkdir -p "$state/pending" && true >"$state/pending/$a" && break; done 2>/dev/null ||
            : >"$state/pending/$a"
        ;;
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
