# Sourced by the scripts beside it: builds, starts and stops the two receivers.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export LC_ALL=C

command -v storescu >/dev/null || { echo "DCMTK is missing: apt-get install dcmtk"; exit 1; }
cargo build --quiet --release -p gateway
portcullis="${CARGO_TARGET_DIR:-target}/release/portcullis"
portcullis="$(realpath "$portcullis")"
scratch="$(mktemp -d "${BENCH_DIR:-${TMPDIR:-/tmp}}/portcullis-bench.XXXXXX")"
house="$scratch/house"
pids=()
clean_up() {
    [ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$scratch"
}
trap clean_up EXIT

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
now() { date +%s.%N; }
calc() { awk "BEGIN { printf \"$1\", $2 }"; }

# wait_for COMMAND...: until it succeeds.
wait_for() {
    local tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 200 ] || { echo "waited in vain for: $*"; exit 1; }
        sleep 0.05
    done
}

# start_house: sets house_pid and house_port.
start_house() {
    "$portcullis" dev --dir "$house" --listen 127.0.0.1:0 --admin 127.0.0.1:0 --quiet 60s >"$scratch/house.log" 2>&1 &
    house_pid=$!
    pids+=("$house_pid")
    wait_for grep -q "^admin on" "$scratch/house.log"
    house_port="$(sed -n 's/^listening on .*://p' "$scratch/house.log")"
    certs="$house/certs"
    tls=(+tls "$certs/hospital-a.key" "$certs/hospital-a.pem" +cf "$certs/gateway.invalid/ca.pem")
    titles=(-aet HOSPITAL_A -aec PORTCULLIS)
}

# start_storescp NAME [OPTION...]: sets scp_pid and scp_port. Single process, so that its CPU time can be read.
start_storescp() {
    local dir="$scratch/$1"
    shift
    mkdir -p "$dir"
    scp_port="$(free_port)"
    storescp --quiet "$@" -od "$dir" "$scp_port" >"$scratch/storescp.log" 2>&1 &
    scp_pid=$!
    pids+=("$scp_pid")
    wait_for bash -c "exec 3<>/dev/tcp/127.0.0.1/$scp_port"
}
storescp_tls=()
storescp_tls_options() {
    storescp_tls=(+tls "$certs/receiver.key" "$certs/receiver.pem" +cf "$certs/hospital-a.invalid/ca.pem")
}

# cpu_seconds PID: user and kernel time so far.
cpu_seconds() { awk '{ sub(/.*\) /, ""); printf "%.2f", ($12 + $13) / 100 }' "/proc/$1/stat"; }
peak_mb() { awk '/VmHWM/ { printf "%d", $2 / 1024 }' "/proc/$1/status"; }

# samples COUNT ROWS FOLDER SEED: a synthetic CT study of COUNT slices of ROWS x ROWS pixels of two bytes.
samples() { cargo run --quiet --release -p promises --example make_study -- "$1" "$2" "$3" "$4"; }
