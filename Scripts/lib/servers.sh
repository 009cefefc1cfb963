# Real servers on free loopback ports. start_servers sets
#     FORKGUARD_TEST_REDIS, FORKGUARD_TEST_POSTGRES, FORKGUARD_TEST_NGINX, FORKGUARD_TEST_NGINX_CLOSING, FORKGUARD_TEST_MEMCACHED
# to HOST:PORT, and makes $servers, a directory for what need not outlive the script. When the script ends, however it does short of
# SIGKILL, stop_servers ends what was started here, and nothing else, and removes the directory.

servers=
server_pids=()

# Debian keeps nginx off the path of users, and postgres off everybody's. `postgresql` brings initdb and createdb beside it.
nginx='nginx|/usr/sbin/nginx'
postgres='/usr/lib/postgresql/*/bin/postgres|postgres'
server_needs=(
    python3:python3 redis-server:redis-server memcached:memcached "$nginx:nginx" "$postgres:postgresql"
    '/usr/include/libpq-fe.h|/usr/include/*/libpq-fe.h:libpq-dev' pkg-config:pkg-config
)

running() { [[ " $(jobs -pr | tr '\n' ' ')" == *" $1 "* ]]; }

stop_servers() {
    trap '' INT TERM HUP
    local pid
    # To all before waiting for one. SIGINT is the one that PostgreSQL does not answer by waiting for its clients. It is not for what
    # initdb has started, which would leave its shared memory behind: initdb waits for that.
    for pid in "${server_pids[@]}"; do
        if running "$pid"; then kill -INT "$pid" 2>/dev/null || true; fi
    done
    for pid in "${server_pids[@]}"; do
        for _ in $(seq 200); do
            running "$pid" || break
            sleep 0.05
        done
        if running "$pid"; then kill -KILL -- "-$pid" 2>/dev/null || true; fi
        wait "$pid" 2>/dev/null || true
    done
    server_pids=()
    [ -z "$servers" ] || rm -rf "$servers"
    servers=
}

# Runs a function in the background, in a process group of its own, so that a terminal's ^C is for the script. The function starts nothing
# but the server, which it becomes: a shell that waits for a command may outlive a SIGINT.
launch() {
    set -m
    (
        cd "$servers" || exit # the caller's directory may be closed to the servers' user
        umask 022
        "$@"
    ) </dev/null >"$servers/$1.log" 2>&1 &
    server_pids+=("$!")
    set +m
}

# Different from each other, and free when asked: somebody may be faster to bind them.
free_ports() {
    python3 -c '
import socket, sys
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(s.getsockname()[1] for s in held))' "$1"
}

# answers REQUEST LINE: whether LINE is among those with which the server on $port answers. What we ask for tells our server from
# somebody else's that was faster to bind the port.
answers() (
    exec 2>/dev/null 3<>"/dev/tcp/127.0.0.1/$port" || exit 1
    printf '%b' "$1" >&3
    while read -r -t 1 line <&3; do
        if [[ ${line%$'\r'} == "$2" ]]; then exit 0; fi
    done
    exit 1
)

redis_runs() { exec "${as[@]}" redis-server --port "$port" --bind 127.0.0.1 --save '' --appendonly no --dir "$servers"; }
redis_answers() { answers 'INFO server\r\nQUIT\r\n' "process_id:$1"; }

memcached_runs() { exec "${as[@]}" memcached -l 127.0.0.1 -p "$port" -U 0 -c 1024; }
memcached_answers() { answers 'stats\r\nquit\r\n' "STAT pid $1"; }

nginx_runs() {
    printf '%01048576d' 0 >nginx/large
    printf >nginx/nginx.conf %s "
daemon off;
worker_processes 2;
pid nginx.pid;
error_log error.log;
events { worker_connections 1024; }
http {
    access_log access.log;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    default_type text/plain;
    keepalive_timeout 60s;
    keepalive_requests 1000000;
    server {
        listen 127.0.0.1:$port;
        location = / { return 200 '$greeting\n'; }
        location = /echo { return 200 \$arg_id; }
        location = /connection { return 200 '\$connection \$connection_requests'; }
        location = /large { root .; }
        location = /close { keepalive_timeout 0; return 200 'closed\n'; }
    }
    server {
        listen 127.0.0.1:$second_port;
        keepalive_timeout 1s;
        location = / { return 200 '$greeting\n'; }
        location = /echo { return 200 \$arg_id; }
        location = /connection { return 200 '\$connection \$connection_requests'; }
    }
}"
    exec "${as[@]}" "$nginx_path" -p "$servers/nginx/" -c nginx.conf -e error.log
}
nginx_answers() { answers 'GET / HTTP/1.0\r\n\r\n' "$greeting"; }

postgres_initializes() {
    exec "${as[@]}" "$postgres_bin/initdb" --pgdata=postgres --username=forkguard --auth=trust --encoding=UTF8 --no-locale --no-sync
}
# Its sockets are named relative to its directory, whose whole name may be too long for one.
postgres_runs() {
    exec "${as[@]}" "$postgres_bin/postgres" -D "$servers/postgres" -p "$port" -c listen_addresses=127.0.0.1 \
        -c unix_socket_directories=. -c max_connections=200 -c shared_buffers=16MB -c fsync=off
}
# It writes so when it has bound its port and lets clients in.
postgres_answers() { grep -q '^ready' "$servers/postgres/postmaster.pid" 2>/dev/null; }

failed() {
    echo "$0: ${1%%_*} did not start:" >&2
    cat "$servers/$1.log" >&2
    exit 1
}

# Starts NAME_runs and waits for NAME_answers. A server that ends instead has found its port taken, for all we know: it gets another.
start() {
    local pid
    for _ in $(seq 5); do
        read -r port second_port <<<"$(free_ports 2)"
        launch "$1_runs"
        pid=${server_pids[-1]}
        for _ in $(seq 600); do
            running "$pid" || continue 2
            ! "$1_answers" "$pid" || return 0
            sleep 0.05
        done
        break
    done
    failed "$1_runs"
}

start_servers() {
    need "${server_needs[@]}"
    # Without a trap of its own, bash may take a SIGINT for one that the command that it waits for has dealt with.
    trap stop_servers EXIT
    trap 'exit 130' INT
    servers=$(mktemp -d)
    as=()
    # PostgreSQL refuses to run as root, and the others had better not.
    if [ "$(id -u)" = 0 ]; then
        as=(setpriv --reuid=nobody --regid="$(id -g nobody)" --clear-groups)
        chown nobody "$servers"
    fi
    postgres_bin=$(dirname "$(readlink -f "$(located "$postgres")")")

    local port second_port
    start redis
    export FORKGUARD_TEST_REDIS="127.0.0.1:$port"
    start memcached
    export FORKGUARD_TEST_MEMCACHED="127.0.0.1:$port"
    nginx_path=$(located "$nginx")
    greeting="The test server in $servers"
    "${as[@]}" mkdir "$servers/nginx"
    start nginx
    export FORKGUARD_TEST_NGINX="127.0.0.1:$port" FORKGUARD_TEST_NGINX_CLOSING="127.0.0.1:$second_port"

    launch postgres_initializes
    wait "${server_pids[-1]}" || failed postgres_initializes
    start postgres
    "$postgres_bin/createdb" -h 127.0.0.1 -p "$port" -U forkguard forkguard
    export FORKGUARD_TEST_POSTGRES="127.0.0.1:$port"
}
