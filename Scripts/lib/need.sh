# need WHAT:PACKAGE... installs the Debian packages of all that is missing when this is root, else says in one message what is missing.
# WHAT is a command; or several ways to find one, separated by '|': commands, and patterns of absolute paths.

apt_updated=

# Prints the path of the first way that leads to something; of a pattern's matches the newest version.
located() {
    local way ways found
    IFS='|' read -ra ways <<<"$1"
    for way in "${ways[@]}"; do
        case $way in
        /*) found=$(compgen -G "$way" | sort -V | tail -n 1) || true ;;
        *) found=$(command -v "$way") || true ;;
        esac
        [ -z "$found" ] || { echo "$found" && return; }
    done
    return 1
}

need() {
    local wanted missing=() packages=()
    for wanted; do
        located "${wanted%%:*}" >/dev/null && continue
        missing+=("${wanted%%:*}")
        [ -z "${wanted#*:}" ] || packages+=("${wanted#*:}")
    done
    [ ${#missing[@]} != 0 ] || return 0
    # What has no package cannot be had: then nothing is installed.
    if [ ${#packages[@]} = ${#missing[@]} ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        [ -n "$apt_updated" ] || apt-get update -qq
        apt_updated=1
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${packages[@]}" >/dev/null
        hash -r
        missing=()
        for wanted; do located "${wanted%%:*}" >/dev/null || missing+=("${wanted%%:*}"); done
        [ ${#missing[@]} != 0 ] || return 0
    fi
    echo "$0: missing: ${missing[*]}${packages[*]:+; install the packages: ${packages[*]}}" >&2
    exit 1
}
