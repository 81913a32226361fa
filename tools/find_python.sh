#!/bin/sh
# Print a Python that can build the environment, or say what is missing.
# An interpreter named in the variable PYTHON is the only one looked at.
set -eu

fits='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))'

for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    # A shim of pyenv may stand on the path and still not run: try it.
    if "$candidate" -c "$fits" 2>/dev/null; then
        if ! "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
            echo "$candidate has no venv module, which the environment needs. On Debian" \
                 "and Ubuntu install it with: sudo apt-get install python3-venv" >&2
            exit 2
        fi
        echo "$candidate"
        exit 0
    fi
done

echo "No Python 3.11, 3.12 or 3.13 was found (looked for:" \
     "${PYTHON:-python3 python3.13 python3.12 python3.11}). Install one of them, or" \
     "name yours: make PYTHON=/path/to/python3.12 ..." >&2
exit 2
