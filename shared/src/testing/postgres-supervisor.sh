# Runs a throw-away PostgreSQL for the process that holds the other end of standard input.
# Takes one command a line and answers each with "ok" or "failed".
# An answer that nobody reads any more must not end this before it has cleaned up.
trap '' PIPE
bin=$1
dir=$2
options=$3
data=$dir/data

pids() {
    postmaster=$(head -n 1 "$data/postmaster.pid")
    echo "$postmaster"
    for status in /proc/[0-9]*/status; do
        # The children of the server, each with its pid.
        awk -v parent="$postmaster" '$1 == "Pid:" { pid = $2 } $1 == "PPid:" && $2 == parent { print pid }' \
            "$status" 2>/dev/null
    done
}

while read -r command port; do
    case $command in
    init)
        "$bin/initdb" -D "$data" -A trust -U postgres -E UTF8 --locale=C -N
        ;;
    tls)
        echo "ssl = on" >>"$data/postgresql.conf"
        ;;
    start)
        "$bin/pg_ctl" start -s -w -t 60 -D "$data" -l "$dir/log" -o "-p $port \
            -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=300 \
            $options"
        ;;
    stop)
        "$bin/pg_ctl" stop -s -w -m fast -D "$data"
        ;;
    pause)
        # First the one that makes more of them.
        kill -STOP "$(head -n 1 "$data/postmaster.pid")" && kill -STOP $(pids)
        ;;
    resume)
        kill -CONT $(pids)
        ;;
    esac </dev/null >>"$dir/log" 2>&1 && echo ok || echo failed
done

if [ -f "$data/postmaster.pid" ]; then
    kill -CONT $(pids)
    "$bin/pg_ctl" stop -s -w -m immediate -D "$data" >/dev/null
fi
cd /
rm -rf "$dir"
