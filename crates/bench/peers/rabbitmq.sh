#!/bin/sh
# Runs a RabbitMQ with its STOMP plugins to compare with, in the foreground: stop it with Ctrl-C or by
# the pid of this script. It has a temporary folder, a node name and ports of its own, so it disturbs
# no other. Debian: apt-get install --no-install-recommends rabbitmq-server (3.10.8).
#
#   peers/rabbitmq.sh [PORT]    default 15700: web-stomp at ws://127.0.0.1:PORT/ws,
#                               STOMP over TCP at PORT+1, login guest, passcode guest
#   PEER_CORE=0                 the core to pin it to
set -eu
port=${1:-15700}
bin=${RABBITMQ_BIN:-/usr/lib/rabbitmq/bin}
folder=$(mktemp -d)
export HOME="$folder"
export RABBITMQ_NODENAME="naru-bench-$port@localhost"
export RABBITMQ_CONFIG_FILE="$folder/rabbitmq.conf"
export RABBITMQ_ENABLED_PLUGINS_FILE="$folder/enabled_plugins"
export RABBITMQ_MNESIA_BASE="$folder/data"
export RABBITMQ_LOG_BASE="$folder/log"
export RABBITMQ_PID_FILE="$folder/pid"
export RABBITMQ_DIST_PORT=$((port + 2))
export RABBITMQ_CONF_ENV_FILE=/dev/null
export ERL_EPMD_PORT=$((port + 3))
export ERL_EPMD_ADDRESS=127.0.0.1
echo '[rabbitmq_stomp, rabbitmq_web_stomp].' > "$RABBITMQ_ENABLED_PLUGINS_FILE"
cat > "$RABBITMQ_CONFIG_FILE" <<CONFIG
listeners.tcp.default = 127.0.0.1:$((port + 4))
stomp.listeners.tcp.1 = 127.0.0.1:$((port + 1))
web_stomp.tcp.ip = 127.0.0.1
web_stomp.tcp.port = $port
log.file.level = warning
CONFIG
# Erlang's port mapper has ports of its own here too; it outlives the node and ends with us.
epmd -address 127.0.0.1 -port "$ERL_EPMD_PORT" &
epmd=$!
taskset -c "${PEER_CORE:-0}" "$bin/rabbitmq-server" > "$folder/out" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || true' INT TERM
"$bin/rabbitmqctl" --quiet wait --timeout 120 "$RABBITMQ_PID_FILE" > /dev/null &&
    echo "rabbitmq listens on 127.0.0.1:$port and $((port + 1)), pid $(cat "$RABBITMQ_PID_FILE")"
wait "$server" || true
# A signal ends the first wait before the node has ended.
wait "$server" || true
kill "$epmd" 2>/dev/null || true
rm -rf "$folder"
