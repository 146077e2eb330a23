#!/bin/sh
# Builds the Debian package policyd_VERSION_ARCHITECTURE.deb in OUTPUT-FOLDER (default: the current one).
#
#   contrib/debian/build.sh [OUTPUT-FOLDER]
#
# The package has policyd and all Python packages it needs in /opt/policyd, a virtual environment of Debian's own
# Python, the same place and units as in docs/guide.md. Build it on the release it is for. Needs python3-venv and
# dpkg-dev's dpkg-deb, no root. pip fetches what is bundled: PIP_INDEX_URL, PIP_NO_INDEX, PIP_FIND_LINKS and the like
# say from where. DEBFULLNAME and DEBEMAIL name the maintainer, DEB_COMPRESSION another compressor than xz.
set -eu
export LC_ALL=C
umask 022

output=$(realpath "${1:-.}")
cd "$(dirname "$0")/../.."
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' policyd/__init__.py)
[ -n "$version" ] || { echo "build.sh: no version in policyd/__init__.py" >&2; exit 1; }
# 1.0.0rc1 comes before 1.0.0, which only a tilde tells dpkg
debian_version=$(echo "$version" | sed 's/\([0-9]\)\.\{0,1\}\(a\|b\|rc\|dev\)\([0-9]\)/\1~\2\3/')
extras=$(/usr/bin/python3 -c 'import tomllib
with open("pyproject.toml", "rb") as file:
    print(",".join(name for name in tomllib.load(file)["project"]["optional-dependencies"] if name != "dev"))')
architecture=$(dpkg --print-architecture)
python=$(/usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
next=$(/usr/bin/python3 -c 'import sys; print("%d.%d" % (sys.version_info[0], sys.version_info[1] + 1))')

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
stage=$work/policyd
place=$stage/opt/policyd
documents=$stage/usr/share/doc/policyd

# ---------------------------------------------------------------------------------------------- the environment

/usr/bin/python3 -m venv "$place"
"$place/bin/pip" install --quiet --no-compile --disable-pip-version-check "${PWD}[$extras]"
"$place/bin/pip" uninstall --quiet --yes --disable-pip-version-check pip setuptools
# only the interpreter and our own command, which must not name the folder it was built in
find "$place/bin" -mindepth 1 ! -name 'python*' ! -name policyd -delete
printf '#!/opt/policyd/bin/python\nfrom policyd.cli.main import run\n\nrun()\n' >"$place/bin/policyd"
chmod 755 "$place/bin/policyd"
sed -i '/^command = /d' "$place/pyvenv.cfg"
rm -rf "$place/share" "$place/include" "$place"/lib/python*/site-packages/policyd-*.dist-info/direct_url.json
find "$place" -name __pycache__ -prune -exec rm -r {} +
/usr/bin/python3 -m compileall -q -j 0 -s "$stage" -p / "$place/lib"

# ---------------------------------------------------------------------------------------------- what is around it

put() { # MODE FILE FOLDER [NAME]
    install -D -m "$1" "$2" "$stage$3/${4:-$(basename "$2")}"
}
mkdir -p "$stage/usr/bin" "$documents/examples" "$stage/etc/policyd/organizations.d" "$stage/etc/policyd/certs"
ln -s /opt/policyd/bin/policyd "$stage/usr/bin/policyd"
put 0755 contrib/postfix/policyd-postfix-setup /usr/sbin
put 0644 systemd/policyd.service /lib/systemd/system
put 0644 systemd/policyd.socket /lib/systemd/system
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

# ---------------------------------------------------------------------------------------------- the package

mkdir "$stage/DEBIAN"
cat >"$stage/DEBIAN/control" <<END
Package: policyd
Version: $debian_version
Architecture: $architecture
Maintainer: ${DEBFULLNAME:-The policyd developers} <${DEBEMAIL:-root@localhost}>
Installed-Size: $(du -k -s --apparent-size "$stage" | cut -f1)
Depends: libc6 (>= 2.34), passwd, python3 (>= $python), python3 (<< $next), systemd
Recommends: postfix
Suggests: logcheck, logrotate, postfix-pcre
Section: mail
Priority: optional
Description: inbound connectors for Postfix, as a policy service
 Lets the mail servers of several organizations relay through one Postfix. A
 server must be identified as a connector of an organization, by certificate
 or address, and the mail must belong to that organization: the domain of its
 sender, recipient or certificate is one of the organization's.
END
(cd "$stage" && find etc -type f -printf '/%p\n' | sort) >"$stage/DEBIAN/conffiles"
(cd "$stage" && find opt usr lib -type f -print0 | sort -z | xargs -0 md5sum) >"$stage/DEBIAN/md5sums"
for script in postinst prerm postrm; do install -m 0755 "contrib/debian/$script" "$stage/DEBIAN/$script"; done
mkdir -p "$output"
dpkg-deb --root-owner-group -Z"${DEB_COMPRESSION:-xz}" --build "$stage" \
    "$output/policyd_${debian_version}_$architecture.deb"
