# Ends every PostgreSQL process whose title contains $1, stopped ones too, and then removes
# the folder $2 with the disks mounted in it. A server that can still answer tidies up itself.

ours() {
    for process in /proc/[0-9]*; do
        read -r program <"$process/comm" && [ "$program" = postgres ] &&
            grep -qaF "$1" "$process/cmdline" && echo "${process#/proc/}"
    done 2>/dev/null
}

signal=QUIT
for turn in $(seq 250); do
    processes=$(ours "$1")
    [ -n "$processes" ] || break
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
