# shellcheck shell=bash
# What an empty Debian machine with a provider's smart host is, where this machine is something else. Runs before
# the guide's first command. 192.0.2.25 is the hub's address; all mail to elsewhere goes to outside.py.
cp /usr/share/postfix/master.cf.dist /etc/postfix/master.cf
cp /usr/share/postfix/main.cf.debian /etc/postfix/main.cf
postconf -e 'smtpd_relay_restrictions = permit_mynetworks permit_sasl_authenticated defer_unauth_destination' \
    'myhostname = container' 'alias_maps = hash:/etc/aliases' 'alias_database = hash:/etc/aliases' \
    'mydestination = $myhostname, container, localhost.localdomain, , localhost' 'relayhost = [127.0.0.1]:2599' \
    'mynetworks = 127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128' 'mailbox_size_limit = 0' 'recipient_delimiter = +' \
    'inet_interfaces = all' 'inet_protocols = all'
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d /var/lib/apt/lists # all is installed, and there is no network
ip link set lo up
ip address add 192.0.2.25/32 dev lo
echo '192.0.2.25 hub.example.net' >>/etc/hosts
rm -rf /opt/policyd /etc/policyd /usr/local/bin/policyd
# of container images: no package may start a service, and documentation is left out
rm -f /usr/sbin/policy-rc.d /etc/dpkg/dpkg.cfg.d/*
cat >/etc/pip.conf <<'END'
[global]
no-index = true
find-links = /tmp/wheelhouse
disable-pip-version-check = true
END
rm -rf /root/.config/pip /root/.pip
cat >/etc/systemd/system/outside.service <<'END'
[Service]
Environment=PYTHONPATH=/usr/src/policyd PYTHONDONTWRITEBYTECODE=1
ExecStart=/bin/sh -c 'until [ -x /opt/policyd/bin/policyd ]; do sleep 0.2; done; exec /opt/policyd/bin/python -m tests.system.outside 2599 /run/outside.jsonl'
END
systemctl daemon-reload
