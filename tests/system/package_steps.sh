# shellcheck shell=bash
# The Debian package on a machine that never saw policyd: installed, upgraded, removed, purged. Each section is a step
# of its own: a bash script that prints what a test looks at as NAME=VALUE. This part comes before every one of them.

until_true() { # COMMAND...: tries again and again; status 1 after a minute
    local deadline=$((SECONDS + 60))
    until "$@"; do
        if [ $SECONDS -ge $deadline ]; then return 1; fi
        sleep 0.1
    done
}
property() { systemctl show --value --property="$1" policyd.service; }
unix=unix:/var/spool/postfix/policyd/policyd.sock
ask() { policyd query --to $unix client_address=198.51.100.9 sender=eve@example.com recipient=bob@example.org 2>&1 | cut -c1-60 || true; }
refuses() { ask | grep -q ^REJECT; }
install_package() { # FILE: as apt does it for somebody who keeps what he edited; what it said is /run/said
    dpkg --force-confdef --force-confold --install "$1" >/run/said 2>&1 </dev/null && echo 'dpkg=0' || echo "dpkg=$?"
}
first=$(echo /tmp/packages/policyd_*_*.deb)
second=/tmp/packages/policyd_9.9.9.deb
rules=/etc/policyd/organizations.d/contoso.toml
everything() { # all files that a package could leave something in, and all users
    find /etc /opt /srv /usr/bin /usr/sbin /usr/local /usr/share/doc \
        /usr/lib/systemd /usr/lib/sysusers.d /usr/lib/tmpfiles.d /var /run/systemd/system \
        /run/policyd* -xdev ! -path '/var/lib/dpkg/*' ! -path '/var/log/*' ! -path '/var/cache/*' ! -path '/var/tmp/*' \
        ! -path /run/said -print 2>/dev/null || true
    find /var/log -maxdepth 1 ! -name dpkg.log
    find /usr/share/man /usr/share/bash-completion /usr/share/zsh /usr/share/fish -name '*policyd*' 2>/dev/null || true
    grep --with-filename . /etc/passwd /etc/group /etc/shadow /etc/gshadow
}

### package-install
everything | sort >/run/before
install_package "$first"
echo "active=$(systemctl is-active policyd.service policyd.socket | xargs)"
echo "enabled=$(systemctl is-enabled policyd.service policyd.socket | xargs)"
echo "unit=$(property FragmentPath)"
echo "units=$(dpkg-query -L policyd | grep 'systemd/system/' | sort | xargs)"
echo "answer=$(ask)"
echo "status=$(property StatusText)"
echo "version=$(policyd --version)"
echo "altered=$(dpkg --verify policyd | xargs)"
echo "configuration=$(stat --format '%U:%G %a' /etc/policyd /etc/policyd/policyd.toml | xargs)"
echo "folders=$(stat --format '%U:%G %a' /var/lib/policyd /var/log/policyd /var/spool/postfix/policyd | xargs)"
echo "wiring=$(policyd-postfix-setup status | head -n 1)"
echo "byte_code=$(find /opt/policyd -name '*.py' | wc -l) $(find /opt/policyd -name '*.pyc' | wc -l)"
echo "manual=$(cd /usr/share/man && ls man?/policyd*.gz | xargs)"
echo "documents=$(cd /usr/share/doc/policyd && ls -d README.md changelog* CHANGELOG.md copyright guide.md reference examples/policyd.toml 2>/dev/null | xargs)"
echo "paths=$(grep --files-with-matches /tmp/ /opt/policyd/bin/policyd /opt/policyd/pyvenv.cfg | xargs)"
policyd check
echo "new_byte_code=$(find /opt/policyd -name '*.pyc' -newer /run/before | wc -l)"

### package-upgrade
sed -i -e 's/^# include/include/' -e 's/^mode = .*/mode = "enforce"/' /etc/policyd/policyd.toml
printf '[organizations.contoso]\naccepted_domains = ["contoso.com"]\n' >$rules
systemctl reload policyd
until_true refuses
echo kept >/var/lib/policyd/of-ours
pid=$(property MainPID)
install_package "$second"
echo "another=$([ "$pid" != "$(property MainPID)" ] && echo yes)"
echo "active=$(systemctl is-active policyd.service)"
echo "answer=$(ask)"
echo "version=$(policyd --version)"
echo "mode=$(grep '^mode' /etc/policyd/policyd.toml)"
echo "logrotate=$(grep -o 'rotate 7$' /etc/logrotate.d/policyd)"
echo "state=$(cat /var/lib/policyd/of-ours)"

### package-upgrade-with-mistakes
# What this version does not understand must not take down the one that runs.
pid=$(property MainPID)
echo 'accepted_domain = []' >>$rules
install_package "$first"
echo "same=$([ "$pid" = "$(property MainPID)" ] && echo yes)"
echo "answer=$(ask)"
echo "said=$(grep 'contoso.toml:3:' /run/said)"
sed -i '$d' $rules
systemctl restart policyd
echo "answer_after=$(ask)"

### package-rights
# What only root can read passes for root, unless the check looks as policyd would.
code() { "$@" >/dev/null 2>&1 && echo 0 || echo $?; }
echo "open=$(code policyd check)"
chmod 600 $rules
echo "said=$(policyd check 2>/dev/null)"
echo "as_root=$(code policyd check --user root)"
echo "reload=$(code systemctl reload policyd)"
chmod 644 $rules
echo "mended=$(code policyd check)"

### package-disabled
systemctl disable --quiet --now policyd
install_package "$second"
echo "active=$(systemctl is-active policyd.service)"
echo "enabled=$(systemctl is-enabled policyd.service)"

### package-database
# The bundled client library under the unit's restrictions, and the snapshot in the state folder.
systemctl enable --quiet --now policyd
bin=$(find /usr/lib/postgresql -path '*/bin/initdb' -exec dirname {} + | head -n 1)
as_postgres() { (cd / && setpriv --reuid=postgres --regid=postgres --clear-groups "$@"); }
sql() { as_postgres "$bin/psql" --host=/run/pg --no-psqlrc --quiet --set=ON_ERROR_STOP=1 "$@" policyd; }
install -d -o postgres -g postgres /run/pg
as_postgres "$bin/initdb" --no-sync --auth=trust --pgdata=/run/pg/data >/dev/null
printf "listen_addresses = '127.0.0.1'\nunix_socket_directories = '/run/pg'\nfsync = off\n" >>/run/pg/data/postgresql.conf
as_postgres "$bin/pg_ctl" --pgdata=/run/pg/data --log=/run/pg/log --silent --wait --timeout=120 start
as_postgres "$bin/createdb" --host=/run/pg policyd
sql --single-transaction --file=/usr/share/doc/policyd/examples/postgresql/schema.sql
sql --command='CREATE ROLE hub LOGIN IN ROLE policyd_reader'
cp -p /etc/policyd/policyd.toml /run/policyd.toml
printf '\n[database]\ndsn = "postgresql://hub@127.0.0.1/policyd"\n' >>/etc/policyd/policyd.toml
systemctl restart policyd
ask_fabrikam() { policyd query --to $unix client_address=203.0.113.7 sender=kate@fabrikam.com recipient=bob@example.org 2>&1 || true; }
accepts() { [ "$(ask_fabrikam)" = OK ]; }
echo "before=$(ask_fabrikam)"
sql --command="INSERT INTO policyd.organizations (name) VALUES ('fabrikam')" \
    --command="INSERT INTO policyd.domains (organization, kind, domain) VALUES ('fabrikam', 'accepted', 'fabrikam.com')" \
    --command="INSERT INTO policyd.connectors (organization, name, addresses) VALUES ('fabrikam', 'office', '{203.0.113.7}')"
until_true accepts
echo "after=$(ask_fabrikam)"
as_postgres "$bin/pg_ctl" --pgdata=/run/pg/data --mode=immediate --silent --wait stop
systemctl restart policyd
echo "without=$(ask_fabrikam)"
cp -p /run/policyd.toml /etc/policyd/policyd.toml
rm -rf /run/pg /run/policyd.toml
systemctl restart policyd

### package-remove
cp /etc/postfix/main.cf /run/main.cf
postconf -e 'smtpd_relay_restrictions = check_policy_service unix:policyd/policyd.sock, reject_unauth_destination'
dpkg --remove policyd >/run/said 2>&1 && echo 'dpkg=0' || echo "dpkg=$?"
cp /run/main.cf /etc/postfix/main.cf
echo "said=$(grep 'still asks' /run/said)"
echo "active=$(systemctl is-active policyd.service)"
echo "left=$(ls -d /opt/policyd /usr/bin/policyd /lib/systemd/system/policyd.* 2>/dev/null | xargs)"
echo "kept=$(cat $rules | head -n 1) $(cat /var/lib/policyd/of-ours) $(id --name --user policyd)"

### package-purge
dpkg --purge policyd >/run/said 2>&1 && echo 'dpkg=0' || echo "dpkg=$?"
rm -f /run/main.cf
everything | sort >/run/after
echo "status=$(dpkg-query --show --showformat='${db:Status-Status}' policyd 2>/dev/null)"
diff /run/before /run/after && echo 'left=nothing' || echo 'left=something'
