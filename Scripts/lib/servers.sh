# Real servers on free loopback ports. start_redis sets FORKGUARD_TEST_REDIS; stop_servers ends what was started here, and nothing else.

servers=$(mktemp -d)
redis_pid=

stop_servers() {
    if [ -n "$redis_pid" ]; then
        kill "$redis_pid" 2>/dev/null || true
        wait "$redis_pid" 2>/dev/null || true
    fi
    rm -rf "$servers"
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

start_redis() {
    need python3:python3
    need redis-server:redis-server
    local port
    port=$(free_port)
    redis-server --port "$port" --bind 127.0.0.1 --save '' --appendonly no --dir "$servers" >"$servers/redis.log" 2>&1 &
    redis_pid=$!
    for _ in $(seq 100); do
        redis-cli -p "$port" ping >/dev/null 2>&1 && break
        kill -0 "$redis_pid" || { cat "$servers/redis.log" >&2; exit 1; }
        sleep 0.1
    done
    redis-cli -p "$port" ping >/dev/null
    export FORKGUARD_TEST_REDIS="127.0.0.1:$port"
}
