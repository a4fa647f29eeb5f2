#!/bin/sh
# psutil_loop.py with the psutil of PyPI in a folder that is kept, run in place of this script.
#
#   peers/wards/psutil.sh PID,PID,…
#   PEER_FOLDER=/tmp/naru-peers     where it is kept; the first run takes some seconds more
set -eu
kept=${PEER_FOLDER:-/tmp/naru-peers}/psutil
if ! [ -e "$kept/ready" ]; then
  python3 -m venv --clear "$kept"
  "$kept/bin/python" -m pip install --quiet --disable-pip-version-check psutil==7.0.0
  : > "$kept/ready"
fi
exec "$kept/bin/python" -B "$(dirname "$0")/psutil_loop.py" "$1"
