#!/bin/sh
# The system packages that napari needs on a machine without a desktop.
#   check    say what is missing; exit status 1 if anything is
#   install  install what is missing (root on Debian or Ubuntu), else say it
set -eu

packages="xvfb xauth libgl1 libegl1 libgl1-mesa-dri libglib2.0-0 libxkbcommon-x11-0
libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0
libxcb-render-util0 libxcb-shape0 libxcb-xinerama0 libdbus-1-3 libfontconfig1"

installed() {
    # Newer releases call some of them <name>t64.
    for name in "$1" "$1t64"; do
        case $(dpkg-query -W -f='${Status}' "$name" 2>/dev/null || true) in
            *" installed") return 0 ;;
        esac
    done
    return 1
}

missing_packages() {
    for package in $packages; do
        installed "$package" || printf ' %s' "$package"
    done
}

if [ "$(uname -s)" != Linux ]; then
    exit 0
fi

if ! command -v dpkg-query >/dev/null; then
    command -v xvfb-run >/dev/null && exit 0
    echo "xvfb-run was not found. Install Xvfb, Mesa and the XCB libraries of Qt 6 with" \
         "the package manager of this system." >&2
    exit 1
fi

missing=$(missing_packages)
if [ -z "$missing" ]; then
    exit 0
fi

if [ "${1:-check}" = install ] && [ "$(id -u)" = 0 ]; then
    apt-get update
    # shellcheck disable=SC2086  # a list of names
    DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends $missing </dev/null
    exit 0
fi

echo "napari needs system packages that are missing here. Install them with:" >&2
echo "    sudo apt-get install$missing" >&2
exit 1
