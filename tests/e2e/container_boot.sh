#!/bin/bash
# Boots systemd as PID 1 of a container over this machine's root file system, runs one script in it, shuts it down.
#
# Started by container.py within mount and PID namespaces of its own, which is what cleans up after it: whatever is
# mounted or running here ends with them, also after SIGKILL. Control groups outlive namespaces: container.py removes
# them.
#
#   container_boot.sh NAME FOLDER TARGET SECONDS [--bind-ro=HOST:INSIDE]...
#
# FOLDER holds `script` (run by bash in the container) and gets `output`, `status`, `journal` and `console`.
set -u
name=$1 folder=$2 target=$3 seconds=$4
shift 4

fail() {
    echo "$1" >>"$folder/problem"
    exit 1
}

# The container's root: ours below, a tmpfs above that takes all writes.
layers=$folder/layers root=$folder/layers/root
mkdir "$layers" && mount -t tmpfs -o mode=0755 none "$layers" || fail "no tmpfs"
mkdir "$layers/upper" "$layers/work" "$root" || fail "no folders"
mount -t overlay -o "lowerdir=/,upperdir=$layers/upper,workdir=$layers/work" none "$root" || fail "no overlay"

# What must not be the host's: its identity, its journal, and services that manage a real machine.
: >"$root/etc/machine-id.new" && mv "$root/etc/machine-id.new" "$root/etc/machine-id"
echo container >"$root/etc/hostname"
printf '127.0.0.1 localhost container\n::1 localhost\n' >"$root/etc/hosts"
rm -rf "$root/var/log/journal"
mkdir -p "$root/var/log/journal" "$root/etc/systemd/system"
for unit in systemd-firstboot systemd-networkd systemd-resolved systemd-timesyncd systemd-udevd; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit.service"
done
install -m 0755 "$folder/script" "$root/script" || fail "no script"

# Only control groups of our own, in each hierarchy that systemd keeps its tree in (v2 alone, v1, or both).
for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
    if [ -e "$hierarchy/cgroup.procs" ]; then
        mkdir "$hierarchy/$name" && echo 0 >"$hierarchy/$name/cgroup.procs" || fail "no control group in $hierarchy"
    fi
done

systemd-nspawn --quiet --machine="$name" --directory="$root" --boot --register=no --keep-unit --private-network \
    --console=pipe --resolv-conf=off --timezone=off --link-journal=no --system-call-filter="bpf @keyring" "$@" \
    "systemd.unit=$target" systemd.firstboot=off </dev/null >"$folder/console" 2>&1 &
nspawn=$!

inside() {
    nsenter --target "$leader" --all -- env -i HOME=/root LANG=C.UTF-8 SYSTEMD_PAGER=cat SYSTEMD_COLORS=0 \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

leader='' state='no PID 1'
deadline=$((SECONDS + 120))
until [ "$state" = running ] || [ "$state" = degraded ]; do
    kill -0 $nspawn 2>/dev/null || fail "systemd-nspawn ended while the container came up"
    [ $SECONDS -lt $deadline ] || fail "the container did not come up: $state"
    sleep 0.1
    # the init of the container is the only child of systemd-nspawn
    leader=$(pgrep --parent $nspawn --exact systemd) || continue
    state=$(inside systemctl is-system-running 2>/dev/null)
done

inside timeout --kill-after=5 "$seconds" bash /script </dev/null >"$folder/output" 2>&1
status=$?

inside journalctl --sync >/dev/null 2>&1
inside journalctl --no-pager --output=short-monotonic >"$folder/journal" 2>/dev/null
echo $status >"$folder/status"
inside timeout 10 systemctl poweroff >/dev/null 2>&1
for _ in $(seq 100); do
    kill -0 $nspawn 2>/dev/null || break
    sleep 0.1
done
