#!/bin/sh
# Builds the Debian package of policyd in OUTPUT-FOLDER (default: the current one), for the release it is built on.
#
#   contrib/debian/build.sh [OUTPUT-FOLDER]
#
# From Debian 13 on policyd_VERSION_all.deb, which uses Debian's own Python packages: their security updates reach it.
# Needs build-essential, debhelper, dh-python, pybuild-plugin-pyproject, python3-all and python3-hatchling.
#
# On Debian 12, whose Twisted is too old, policyd_VERSION~deb12_ARCHITECTURE.deb: it has all Python packages it needs in
# /opt/policyd, a virtual environment of Debian's own Python, the same place as in docs/guide.md. Needs python3-venv and
# dpkg-dev's dpkg-deb. pip fetches what is bundled: PIP_INDEX_URL, PIP_NO_INDEX, PIP_FIND_LINKS and the like say from
# where. DEB_COMPRESSION names another compressor than xz.
#
# Neither needs root. DEBFULLNAME and DEBEMAIL name the maintainer.
set -eu
export LC_ALL=C
umask 022

output=$(realpath --canonicalize-missing "${1:-.}")
cd "$(dirname "$0")/../.."
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' policyd/__init__.py)
[ -n "$version" ] || { echo "build.sh: no version in policyd/__init__.py" >&2; exit 1; }
# 1.0.0rc1 comes before 1.0.0, which only a tilde tells dpkg
debian_version=$(echo "$version" | sed 's/\([0-9]\)\.\{0,1\}\(a\|b\|rc\|dev\)\([0-9]\)/\1~\2\3/')
maintainer="${DEBFULLNAME:-The policyd developers} <${DEBEMAIL:-root@localhost}>"
mkdir -p "$output"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

of_debians_own() {
    tree=$work/tree
    mkdir "$tree"
    cp -R contrib docs man policyd systemd CHANGELOG.md LICENSE README.md SECURITY.md pyproject.toml "$tree"
    cp -R contrib/debian/debian "$tree"
    for script in postinst prerm postrm; do cp "contrib/debian/$script" "$tree/debian/policyd.$script"; done
    sed -i "s/^Maintainer: .*/Maintainer: $maintainer/" "$tree/debian/control"
    cat >"$tree/debian/changelog" <<END
policyd ($debian_version) unstable; urgency=medium

  * What has changed is in CHANGELOG.md beside this file.

 -- $maintainer  $(date --utc --rfc-email --date="@${SOURCE_DATE_EPOCH:-$(date +%s)}")
END
    (cd "$tree" && dpkg-buildpackage --build=binary --no-sign) >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
    mv "$work/policyd_${debian_version}_all.deb" "$output"
}

bundled() { # RELEASE, as a suffix that sorts before the package of the next release
    debian_version="$debian_version~$1"
    extras=$(/usr/bin/python3 -c 'import tomllib
with open("pyproject.toml", "rb") as file:
    print(",".join(name for name in tomllib.load(file)["project"]["optional-dependencies"] if name not in ("dev", "fuzz")))')
    architecture=$(dpkg --print-architecture)
    python=$(/usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    next=$(/usr/bin/python3 -c 'import sys; print("%d.%d" % (sys.version_info[0], sys.version_info[1] + 1))')
    stage=$work/policyd
    place=$stage/opt/policyd

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
    mkdir -p "$stage/usr/bin"
    ln -s /opt/policyd/bin/policyd "$stage/usr/bin/policyd"
    contrib/debian/files.sh "$stage"

    mkdir "$stage/DEBIAN"
    {
        cat <<END
Package: policyd
Version: $debian_version
Architecture: $architecture
Maintainer: $maintainer
Installed-Size: $(du -k -s --apparent-size "$stage" | cut -f1)
Depends: libc6 (>= 2.34), passwd, python3 (>= $python), python3 (<< $next), systemd
Recommends: postfix
Suggests: logcheck, logrotate, postfix-pcre
Section: mail
Priority: optional
END
        sed -n '/^Description:/,$p' contrib/debian/debian/control
    } >"$stage/DEBIAN/control"
    (cd "$stage" && find etc -type f -printf '/%p\n' | sort) >"$stage/DEBIAN/conffiles"
    (cd "$stage" && find opt usr -type f -print0 | sort -z | xargs -0 md5sum) >"$stage/DEBIAN/md5sums"
    for script in postinst prerm postrm; do install -m 0755 "contrib/debian/$script" "$stage/DEBIAN/$script"; done
    dpkg-deb --root-owner-group -Z"${DEB_COMPRESSION:-xz}" --build "$stage" \
        "$output/policyd_${debian_version}_$architecture.deb"
}

# shellcheck source=/dev/null
case $(. /etc/os-release && echo "$ID${VERSION_ID:-}") in
debian12) bundled deb12 ;;
debian*) of_debians_own ;;
*) echo "build.sh: neither Debian 12 nor a later one" >&2 && exit 1 ;;
esac
