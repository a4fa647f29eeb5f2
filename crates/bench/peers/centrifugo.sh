#!/bin/sh
# Runs a Centrifugo that is installed, with a configuration to compare with, in the foreground: stop it
# with Ctrl-C or by its pid. To install it by its module's name, where the module proxy has it:
#
#   GOBIN=/tmp/go-bin go install github.com/centrifugal/centrifugo/v6@latest
#
#   peers/centrifugo.sh [PORT]           default 8101, at /connection/websocket
#   CENTRIFUGO=/tmp/go-bin/centrifugo    the program
#   PEER_CORE=0                          the core to pin it to
#
# Channels bench:* have history (100, 5 minutes) and recovery, plain:* have none.
set -eu
port=${1:-8101}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'kill "$pid" 2>/dev/null || true' INT TERM
cat > "$folder/config.json" <<CONFIG
{
  "http_server": { "address": "127.0.0.1", "port": $port },
  "log": { "level": "warn" },
  "client": {
    "allow_anonymous_connect_without_token": true,
    "allowed_origins": [],
    "connection_limit": 0
  },
  "websocket": { "use_write_buffer_pool": true, "read_buffer_size": 1024 },
  "channel": {
    "namespaces": [
      {
        "name": "bench",
        "history_size": 100,
        "history_ttl": "300s",
        "force_recovery": true,
        "allow_subscribe_for_client": true,
        "allow_subscribe_for_anonymous": true,
        "allow_publish_for_client": true,
        "allow_publish_for_anonymous": true
      },
      {
        "name": "plain",
        "allow_subscribe_for_client": true,
        "allow_subscribe_for_anonymous": true,
        "allow_publish_for_client": true,
        "allow_publish_for_anonymous": true
      }
    ]
  }
}
CONFIG
taskset -c "${PEER_CORE:-0}" "${CENTRIFUGO:-centrifugo}" -c "$folder/config.json" &
pid=$!
echo "centrifugo listens on 127.0.0.1:$port, pid $pid"
wait "$pid"
