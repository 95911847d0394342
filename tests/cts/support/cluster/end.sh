# Ends every server whose title contains $1, stopped ones too, and the programs that run it, and then
# removes the folder $2 with the disks mounted in it. A server that can still answer tidies up itself.

servers() {
    for process in /proc/[0-9]*; do
        read -r program <"$process/comm" || continue
        case "$program" in postgres | pgbouncer) ;; *) continue ;; esac
        grep -qaF "$1" "$process/cmdline" && echo "${process#/proc/}"
    done 2>/dev/null
}

# What runs them, or works for them.
others() {
    for process in /proc/[0-9]*; do
        read -r program <"$process/comm" || continue
        case $program in
        python3* | haproxy | pg_*)
            grep -qaF "$1" "$process/cmdline" "$process/environ" && echo "${process#/proc/}"
            ;;
        esac
    done 2>/dev/null
}

signal=QUIT
for turn in $(seq 250); do
    # They come first, so that no server is started again.
    others=$(others "$1")
    [ -z "$others" ] || kill -KILL $others 2>/dev/null
    processes=$(servers "$1")
    [ -n "$others$processes" ] || break
    [ "$turn" -lt 150 ] || signal=KILL
    kill "-$signal" $processes 2>/dev/null
    kill -CONT $processes 2>/dev/null
    sleep 0.02
done

# Shared memory that a killed server left.
for file in "$2"/data/postmaster.pid "$2"/*/data/postmaster.pid; do
    [ -e "$file" ] && ipcrm -m "$(sed -n '7s/.* //p' "$file")"
done
for disk in "$2"/disk-* "$2"/*/disk-*; do
    [ -d "$disk" ] && umount -l "$disk"
done
rm -rf "${2:?}"
