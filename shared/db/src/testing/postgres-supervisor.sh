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
    standby)
        # A hot standby of the server on this port. It has the settings that this one has now.
        "$bin/pg_basebackup" -D "$data" -h 127.0.0.1 -p "$port" -U postgres -X stream -c fast -N -R
        ;;
    promote)
        "$bin/pg_ctl" promote -s -w -D "$data"
        ;;
    synchronous)
        # A commit is acknowledged once a standby has it.
        echo "synchronous_standby_names = '*'" >>"$data/postgresql.conf" && "$bin/pg_ctl" reload -s -D "$data"
        ;;
    tls)
        # Not all programs of PostgreSQL were built with TLS.
        built=$("$bin/pg_config" --configure || echo ssl)
        test "${built#*ssl}" != "$built" && echo "ssl = on" >>"$data/postgresql.conf"
        ;;
    start)
        "$bin/pg_ctl" start -s -w -t 60 -D "$data" -l "$dir/log" -o "-p $port \
            -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=300 \
            $options"
        ;;
    stop)
        "$bin/pg_ctl" stop -s -w -m fast -D "$data"
        ;;
    kill)
        # As a machine that loses power: nothing is written any more, and nobody is told.
        victims=$(pids)
        segment=$(sed -n 7p "$data/postmaster.pid" | awk '{ print $2 }')
        kill -KILL $victims
        while kill -0 $victims; do sleep 0.01; done
        ipcrm -m "$segment"
        rm -f "$data/postmaster.pid"
        ;;
    pause)
        # First the one that makes more of them.
        kill -STOP "$(head -n 1 "$data/postmaster.pid")" && kill -STOP $(pids)
        ;;
    resume)
        # One that was ending is gone as soon as its parent runs again.
        for pid in $(pids); do kill -CONT "$pid" || ! kill -0 "$pid"; done
        ;;
    esac </dev/null >>"$dir/log" 2>&1 && echo ok || echo failed
done

if [ -f "$data/postmaster.pid" ]; then
    kill -CONT $(pids)
    "$bin/pg_ctl" stop -s -w -m immediate -D "$data" >/dev/null
fi
cd /
rm -rf "$dir"
