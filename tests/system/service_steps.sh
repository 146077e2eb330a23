# shellcheck shell=bash
# What the units promise, tried one after the other on the machine that the guide set up. Each section is a step of its
# own: a bash script that prints what a test looks at as NAME=VALUE. The part before the first section comes before
# every one of them. Sections named socket-... run while policyd.socket is active, the others when it is not.

until_true() { # COMMAND...: tries again and again; status 1 after a minute
    local deadline=$((SECONDS + 60))
    until "$@"; do
        if [ $SECONDS -ge $deadline ]; then return 1; fi
        sleep 0.1
    done
}
property() { systemctl show --value --property="$1" "${2:-policyd.service}"; }
ask() { policyd query "$@" client_address=198.51.100.9 sender=eve@example.com recipient=bob@example.org 2>&1 | cut -c1-60 || true; }
answers() { ask | grep -q ^REJECT; }
failed_with() { journalctl --unit policyd --output cat --since "@$began" --grep "status=$1" --lines 1; } # since $began
is_another() { [ "$(property MainPID)" != "$1" ] && answers; }
status_has() { property StatusText | grep -q "$1"; }
unix=unix:/var/spool/postfix/policyd/policyd.sock
rules=/etc/policyd/organizations.d/contoso.toml
postfix=postfix.service # of which Debian 12 has one for each instance: there this one only stands for all of them
grep -q '^Type=forking' /lib/systemd/system/postfix.service || postfix=postfix@-.service
drop_in() { # lines of [Service] until the end of the step
    mkdir -p /run/systemd/system/policyd.service.d
    printf '[Service]\n%s\n' "$1" >/run/systemd/system/policyd.service.d/step.conf
    systemctl daemon-reload
    trap 'rm /run/systemd/system/policyd.service.d/step.conf; systemctl daemon-reload' EXIT
}

### socket-owner
stat --format 'socket=%U:%G %a' /var/spool/postfix/policyd/policyd.sock
stat --format 'folder=%U:%G %a' /var/spool/postfix/policyd
as() { setpriv --reuid="$1" --regid="$2" --clear-groups /opt/policyd/bin/policyd query --to $unix sender= recipient=x@example.org 2>&1 | cut -c1-70 || true; }
echo "as_postfix=$(as postfix postfix)"
echo "as_nobody=$(as nobody nogroup)"

### socket-activation
systemctl stop policyd.service
echo "before=$(systemctl is-active policyd.service policyd.socket | xargs)"
echo "tcp=$(ask)"
echo "after=$(systemctl is-active policyd.service policyd.socket | xargs)"
systemctl stop policyd.service
echo "unix=$(ask --to $unix)"
echo "listening=$(journalctl --unit policyd --output cat --grep 'listening on' --lines 1)"

### socket-request-waits
# A policyd that takes its time to start: the request has arrived long before anybody could read it.
drop_in 'ExecStartPre=/bin/sleep 3'
systemctl stop policyd.service
began=$(date +%s%N)
echo "answer=$(ask)"
echo "waited=$((($(date +%s%N) - began) / 1000000))"

### socket-restart-refuses-nobody
rm -f /tmp/restarted
python3 - >/tmp/asked <<'END' &
import os, socket, time
answered = refused = after = 0
while after < 10:
    after += os.path.exists("/tmp/restarted")
    try:
        with socket.create_connection(("127.0.0.1", 10045), 60) as s:
            s.sendall(b"request=smtpd_access_policy\nprotocol_state=RCPT\nrecipient=x@example.org\n\n")
            answered += s.recv(1000).startswith(b"action=REJECT")
    except ConnectionRefusedError:
        refused += 1
    open("/tmp/asking", "w").close()
    time.sleep(0.01)
print(f"answered={answered > 10}\nrefused={refused}")
END
until_true test -e /tmp/asking
systemctl restart policyd.service
touch /tmp/restarted
wait
cat /tmp/asked

### socket-without-its-entry
# listen names the address itself while the socket unit has it: an error, not a silent second listener.
sed -i.kept 's,^listen = .*systemd.*,listen = ["inet:127.0.0.1:10045"],' /etc/policyd/policyd.toml
began=$(date +%s)
systemctl restart policyd.service && echo 'started=yes' || echo 'started=no'
echo "status=$(failed_with 71)"
mv /etc/policyd/policyd.toml.kept /etc/policyd/policyd.toml
until_true answers && echo 'recovered=yes'

### settle
# Where the rollout left off: enforcing rules, main.cf without policyd, no socket unit.
rm -rf /etc/systemd/system/policyd.service.d
systemctl daemon-reload
sed -i 's/^mode = .*/mode = "enforce"/' /etc/policyd/policyd.toml
systemctl restart policyd
echo "active=$(systemctl is-active policyd.service policyd.socket | xargs)"

### verify
systemd-analyze verify --recursive-errors=no /etc/systemd/system/policyd.service /etc/systemd/system/policyd.socket \
    && echo 'verify=0' || echo "verify=$?"
systemd-analyze security --no-pager --threshold=10 policyd.service >/tmp/exposure && echo 'exposure=low' || echo 'exposure=high'
tail -n 1 /tmp/exposure
echo "enabled=$(systemctl is-enabled policyd.service)"

### identity
echo "user=$(ps -o user=,group= -p "$(property MainPID)" | xargs)"
echo "shell=$(getent passwd policyd | cut -d: -f6,7)"
echo "files=$(sed -n 's/^Max open files *\([0-9]*\) .*/\1/p' "/proc/$(property MainPID)/limits")"
echo "capabilities=$(sed -n 's/^Cap\(Eff\|Bnd\|Prm\):\s*//p' "/proc/$(property MainPID)/status" | xargs)"
echo "configuration=$(stat --format '%U:%G %a' /etc/policyd)"
echo "state=$(stat --format '%U:%G %a' /var/lib/policyd) log=$(stat --format '%U:%G %a' /var/log/policyd)"

### sandbox
# The unit's own sandbox, with another program in it.
sed -e 's/^Type=.*/Type=oneshot/' -e 's/^RuntimeDirectory=.*/RuntimeDirectory=policyd-probe/' \
    -e '/^ExecReload=\|^WatchdogSec=\|^Restart/d' -e 's,^ExecStart=.*,ExecStart=/usr/bin/python3 /run/probe.py,' \
    -e 's/^SyslogIdentifier=.*/SyslogIdentifier=probe/' -e '/^Before=/d' \
    /etc/systemd/system/policyd.service >/run/systemd/system/probe.service
cat >/run/probe.py <<'END'
import ctypes, mmap, os, socket, subprocess

def tried(name, action):
    try:
        action()
        print(f"{name}=yes", flush=True)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        print(f"{name}=no", flush=True)

def write(path):
    def action():
        with open(path, "w") as file:
            file.write("x")
        os.unlink(path)
    return action

def connect(host, seconds):
    def action():
        with socket.create_connection((host, 25), seconds):
            pass
    return action

def raise_memory():
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)

for path in ("/var/lib/policyd", "/var/log/policyd", "/run/policyd-probe", "/var/spool/postfix/policyd", "/tmp"):
    tried(f"write {path}", write(path + "/probe"))
for path in ("/etc/policyd", "/etc", "/opt/policyd", "/usr/local", "/var/lib", "/var/log", "/var/spool/postfix",
             "/var/spool/postfix/private", "/run", "/root", "/home", "/dev/shm", "/proc/sys/kernel", "/sys/kernel"):
    tried(f"write {path}", write(path + "/probe"))
for path in ("/etc/policyd/policyd.toml", "/root/contoso/mail.contoso.com.key", "/etc/shadow", "/etc/postfix/tls/hub.key"):
    tried(f"read {path}", lambda path=path: open(path).close())
tried("connect 127.0.0.1", connect("127.0.0.1", 60))
tried("connect 192.0.2.25", connect("192.0.2.25", 1))
tried("packet socket", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
tried("writable and executable memory", raise_memory)
tried("setuid", lambda: os.setuid(0))
tried("see other processes", lambda: open("/proc/1/cmdline").close())
tried("new namespace", lambda: subprocess.run(["unshare", "--user", "true"], check=True, stderr=subprocess.DEVNULL))
tried("setgid file", lambda: (open("/tmp/s", "w").close(), os.chmod("/tmp/s", 0o2755)))
END
systemctl daemon-reload
systemctl start probe.service
journalctl --unit probe.service --identifier probe --output cat
rm /run/systemd/system/probe.service
systemctl daemon-reload

### ready-means-listening
# No waiting between the end of `systemctl restart` and the question.
for round in 1 2 3; do
    systemctl restart policyd
    echo "round$round=$(ask) $(ask --to $unix)"
done
echo "status=$(property StatusText)"
echo "watchdog=$(property WatchdogUSec)"

### address-taken
systemctl stop policyd
systemd-run --quiet --unit=thief python3 -c 'import socket, time; s = socket.create_server(("127.0.0.1", 10045)); time.sleep(600)'
until_true bash -c ': 2>/dev/null </dev/tcp/127.0.0.1/10045'
began=$(date +%s)
systemctl start policyd && echo 'started=yes' || echo 'started=no'
echo "status=$(failed_with 71)"
systemctl stop thief
until_true answers && echo 'recovered=yes'

### bad-configuration
cp $rules /run/rules
echo 'accepted_domain = ["contoso.com"]' >>$rules
systemctl restart policyd && echo 'started=yes' || echo 'started=no'
sleep 4 # twice RestartSec: nothing is expected to happen
echo "status=$(property ExecMainStatus) state=$(property ActiveState) restarts=$(property NRestarts)"
journalctl --unit policyd --output cat --lines 30 | grep 'contoso.toml:.*accepted_domain"' | head -n 1
cp /run/rules $rules
systemctl start policyd
echo "answer=$(ask)"

### reload
pid=$(property MainPID)
sed -i 's/^accepted_domains = .*/accepted_domains = ["contoso.com", "contoso.org"]/' $rules
systemctl reload policyd && echo "good=$?" || echo "good=$?"
until_true status_has 'generation 2,'
echo "status=$(property StatusText)"
echo "new=$(policyd query sender= recipient=kate@contoso.org client_address=198.51.100.9)"
echo "shown=$(policyd show --running contoso | grep accepted_domains)"
echo "socket=$(stat --format '%a %U %G' /run/policyd/control.sock)"
cp $rules /run/rules
echo 'nonsense' >>$rules
systemctl reload policyd && echo "bad=$?" || echo "bad=$?"
echo "active=$(property ActiveState)"
echo "status=$(property StatusText)"
echo "still=$(policyd query sender= recipient=kate@contoso.org client_address=198.51.100.9)"
# `kill -HUP` by hand, for which nobody waits
systemctl kill --kill-whom=main --signal=HUP policyd
until_true status_has 'reload failed'
echo "status=$(property StatusText)"
echo "metric=$(curl --silent http://127.0.0.1:9645/metrics | grep ^policyd_last_reload_success)"
cp /run/rules $rules
systemctl reload policyd
until_true status_has 'generation 3,'
echo "same_process=$([ "$pid" = "$(property MainPID)" ] && echo yes)"
journalctl --unit policyd --output cat --lines 60 | grep '^policyd: changed' | head -n 1

### kill
pid=$(property MainPID) restarts=$(property NRestarts)
kill -KILL "$pid"
until_true is_another "$pid"
echo "restarts=$(($(property NRestarts) - restarts))"
echo "answer=$(ask) $(ask --to $unix)"

### watchdog
drop_in 'WatchdogSec=8s'
systemctl restart policyd
pid=$(property MainPID)
first=$(property WatchdogTimestampMonotonic)
outlived() { [ $(($(property WatchdogTimestampMonotonic) - first)) -ge 8000000 ]; }
until_true outlived # a healthy one lives longer than the time it has
echo "healthy=$([ "$pid" = "$(property MainPID)" ] && echo yes)"
kill -STOP "$pid"
until_true is_another "$pid"
journalctl --unit policyd --output cat --lines 20 | grep -i 'watchdog timeout' | head -n 1
echo "answer=$(ask)"

### stop
systemctl stop policyd
echo "result=$(property Result) status=$(property ExecMainStatus)"
echo "last=$(journalctl --unit policyd --identifier policyd --output cat --lines 1)"
echo "left=$(ls /var/spool/postfix/policyd)"
systemctl start policyd

### workers
# The parent's watchdog must leave it time to find out that a worker hangs: 5 s for each answer.
drop_in 'WatchdogSec=16s'
sed -i 's/^mode = /workers = 2\nmode = /' /etc/policyd/policyd.toml
systemctl restart policyd
parent=$(property MainPID) restarts=$(property NRestarts)
workers() { pgrep --parent "$parent" | xargs; }
others_than() { local now; now=$(workers); [ "$(echo "$now" | wc -w)" = 2 ] && ! echo " $now " | grep -q " $1 "; }
answered() { for _ in 1 2 3 4 5 6 7 8; do ask; done | sort | uniq -c | xargs; }
all_answered() { [ "$(answered | cut -c1-8)" = '8 REJECT' ]; }
number() { curl --silent http://127.0.0.1:9645/metrics | grep "^policyd_workers "; }
echo "answers=$(answered)"
echo "metric=$(number)"
echo "unix=$(ask --to $unix)"
victim=$(workers | cut -d' ' -f1)
kill -KILL "$victim"
until_true others_than "$victim"
until_true all_answered
echo "after_kill=$(answered)"
victim=$(workers | cut -d' ' -f2)
kill -STOP "$victim"
until_true others_than "$victim"
until_true all_answered
echo "after_stop=$(answered)"
echo "parent=$([ "$parent" = "$(property MainPID)" ] && echo same) restarts=$(($(property NRestarts) - restarts))"
systemctl stop policyd
echo "result=$(property Result) left=$(pgrep --uid policyd | xargs)"
sed -i '/^workers = 2/d' /etc/policyd/policyd.toml
systemctl start policyd

### log-file
# The real logrotate with our rules, again and again, while requests come; each has a number of its own.
printf '\n[log]\nfile = "/var/log/policyd/policyd.log"\n' >>/etc/policyd/policyd.toml
systemctl restart policyd
install -m 0644 /usr/src/policyd/contrib/logrotate/policyd /etc/logrotate.d/policyd
log=/var/log/policyd/policyd.log
python3 - <<'END' &
import os, socket
number = 0
with socket.create_connection(("127.0.0.1", 10045), 60) as s:
    while not os.path.exists("/tmp/rotated"):
        number += 1
        s.sendall(b"request=smtpd_access_policy\nprotocol_state=RCPT\nrecipient=x@example.org\ninstance=n%d\n\n" % number)
        assert s.recv(1000).startswith(b"action=REJECT")
        with open("/tmp/asked", "w") as file:
            file.write(str(number))
END
client=$!
grows() { [ "$(stat --format %s $log 2>/dev/null || echo 0)" -gt 1000 ]; }
until_true grows
stat --format 'log=%U:%G %a' $log
cp $rules /run/rules
for round in 1 2 3 4; do
    [ $round != 3 ] || echo nonsense >>$rules # a mistake in the rules must not stop it
    logrotate --force /etc/logrotate.d/policyd 2>&1
    [ $round != 3 ] || cp /run/rules $rules
    until_true grows
done
touch /tmp/rotated
wait $client
asked=$(cat /tmp/asked)
until_true grep -q " instance=n$asked " $log
echo "asked_many=$([ "$asked" -gt 100 ] && echo yes)"
echo "files=$(ls /var/log/policyd | xargs)"
stat --format 'new=%U:%G %a' $log
numbers() { { zcat $log.*.gz; cat $log.1 $log; } | grep -o ' instance=n[0-9]* ' | cut -d= -f2; }
echo "lost=$((asked - $(numbers | sort -u | wc -l))) twice=$(numbers | sort | uniq -d | wc -l)"
sed -i '/^\[log\]/d; /^file = /d' /etc/policyd/policyd.toml
systemctl restart policyd

### boot-order
# One transaction, as at boot, with a policyd that takes its time: Postfix must wait for it.
systemctl stop postfix policyd
drop_in 'ExecStartPre=/bin/sleep 2'
printf '[Unit]\nWants=postfix.service policyd.service\n' >/run/systemd/system/boot.target
systemctl daemon-reload
systemctl start boot.target
until_true systemctl --quiet is-active $postfix
echo "policyd_ready=$(property ActiveEnterTimestampMonotonic)"
echo "postfix_began=$(property InactiveExitTimestampMonotonic $postfix)"
echo "postfix=$(systemctl is-active $postfix)"

### postfix-without-policyd
# Order is not dependence: Postfix starts although policyd cannot.
cp $rules /run/rules
systemctl stop postfix policyd
echo 'nonsense' >>$rules
systemctl daemon-reload
systemctl start boot.target
until_true systemctl --quiet is-active $postfix
echo "active=$(systemctl is-active policyd.service $postfix | xargs)"
cp /run/rules $rules
systemctl start policyd

### journal
ask
policyd query client_address=198.51.100.9 sender= recipient=kate@contoso.com
until_true sh -c 'journalctl --unit policyd --lines 1 --output cat | grep -q incoming'
journalctl --unit policyd --lines 2 --output json |
    python3 -c 'import json, sys
for line in sys.stdin:
    entry = json.loads(line)
    print("entry=" + " ".join([entry["SYSLOG_IDENTIFIER"], entry["PRIORITY"], entry["SYSLOG_FACILITY"], *entry["MESSAGE"].split()[:3]]))'

### all-lines
# For the rules of logcheck: everything that policyd and its unit have logged so far, as syslog has it.
journalctl --identifier policyd --output short --no-hostname | sed 's/^\(.\{15\}\) /\1 container /'
