#!/bin/sh
# Puts what both Debian packages have beside the Python code in STAGE: units, configuration, manual, documents.
#
#   contrib/debian/files.sh STAGE
set -eu
umask 022

stage=$(realpath "$1")
documents=$stage/usr/share/doc/policyd
cd "$(dirname "$0")/../.."

put() { # MODE FILE FOLDER [NAME]
    install -D -m "$1" "$2" "$stage$3/${4:-$(basename "$2")}"
}
mkdir -p "$documents/examples" "$stage/etc/policyd/organizations.d" "$stage/etc/policyd/certs"
put 0755 contrib/postfix/policyd-postfix-setup /usr/sbin
put 0644 systemd/policyd.service /usr/lib/systemd/system
put 0644 systemd/policyd.socket /usr/lib/systemd/system
put 0644 systemd/sysusers.d/policyd.conf /usr/lib/sysusers.d
put 0644 systemd/tmpfiles.d/policyd.conf /usr/lib/tmpfiles.d
put 0640 contrib/debian/policyd.toml /etc/policyd
put 0644 contrib/logcheck/policyd.ignore /etc/logcheck/ignore.d.server policyd
put 0644 contrib/logrotate/policyd /etc/logrotate.d
for page in man/*.[1-9]; do
    put 0644 "$page" "/usr/share/man/man${page##*.}"
    gzip -9n "$stage/usr/share/man/man${page##*.}/$(basename "$page")"
done
put 0644 contrib/completion/policyd /usr/share/bash-completion/completions
put 0644 contrib/completion/_policyd /usr/share/zsh/vendor-completions
put 0644 contrib/completion/policyd.fish /usr/share/fish/vendor_completions.d
put 0644 LICENSE /usr/share/doc/policyd copyright
cp -R docs/. README.md SECURITY.md CHANGELOG.md "$documents"
# the pages lie beside these two here
sed -i 's,](docs/,](,g; s,](LICENSE),](copyright),' "$documents/README.md" "$documents/SECURITY.md"
for examples in postfix grafana prometheus postgresql policyd.toml policyd.schema.json; do cp -R "contrib/$examples" "$documents/examples"; done
rm -r "$documents/make" "$documents/examples/postfix/policyd-postfix-setup"
find "$documents" -type f -exec chmod 644 {} +
