#!/bin/sh
# Runs Centrifugo's library as a server to compare with, in the foreground: stop it with Ctrl-C or by
# the pid that it prints. Needs Go; the first call builds it (minutes, from proxy.golang.org).
#
#   peers/centrifuge.sh [HOST:PORT]      default 127.0.0.1:8100, at /connection/websocket
#   PEER_CORE=0                          the core to pin it to
#   PEER_BUILD=DIR                       where the program is built and kept
#
# Channels bench:* have history (100, 5 minutes) and recovery, others have none.
# Centrifugo itself: see centrifugo.sh.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
listen=${1:-127.0.0.1:8100}
build=${PEER_BUILD:-${TMPDIR:-/tmp}/naru-peers}
mkdir -p "$build"
# A copy, so that the tool writes nothing into the clone.
cp "$here"/centrifuge/go.mod "$here"/centrifuge/go.sum "$here"/centrifuge/main.go "$build"
(cd "$build" && nice go build -trimpath -buildvcs=false -o centrifuge-peer .)
exec taskset -c "${PEER_CORE:-0}" "$build/centrifuge-peer" -listen "$listen"
