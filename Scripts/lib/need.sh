# need COMMAND:PACKAGE installs a Debian package when its command is missing and this is root, else says what is missing.

apt_updated=
need() {
    local command=${1%%:*} package=${1#*:}
    command -v "$command" >/dev/null && return
    if [ -n "$package" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        [ -n "$apt_updated" ] || apt-get update -qq
        apt_updated=1
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$package" >/dev/null
    else
        echo "$0: '$command' is missing${package:+: install the package $package}" >&2
        exit 1
    fi
}
