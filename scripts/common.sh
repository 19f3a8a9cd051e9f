# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What quickstart, test and scripts/ share. Sourced by them, under set -euo pipefail.

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Everything that is downloaded, made or cached while running; removing it is always safe.
export AIOLOS_STATE=${AIOLOS_STATE:-$project/.aiolos}
# Debian's own Python, whatever comes first on PATH: its packages are installed for this one.
# shellcheck disable=SC2034
python=/usr/bin/python3
# Compiled objects survive `rm -r build`, and go with the state folder.
export CCACHE_DIR=${CCACHE_DIR:-$AIOLOS_STATE/ccache}
export PYTHONDONTWRITEBYTECODE=1

step_number=0
step_name=
step_start=0
step_child=

# now_ms: a clock to measure with, in milliseconds
now_ms() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }

seconds_since() {
  local ms=$(($(now_ms) - $1))
  printf '%d.%d s' $((ms / 1000)) $((ms % 1000 / 100))
}

# step TEXT: ends the step before, saying how long it took, and begins this one; step_count is how many there will be
step() {
  step_done
  step_number=$((step_number + 1))
  step_name=$1
  step_start=$(now_ms)
  printf '[%d/%d] %s\n' "$step_number" "${step_count:?}" "$step_name"
}

step_done() {
  [ -z "$step_name" ] || printf '      done in %s\n' "$(seconds_since "$step_start")"
  step_name=
}

# quietly LOG SECONDS COMMAND...: runs the command with its output in LOG, and shows that it is alive: on a terminal the
# last line of LOG every second, elsewhere every 20 s. If it fails or passes its time, shows the end of LOG; its status.
quietly() {
  local log=$1 limit=$2 ticker status=0
  shift 2
  mkdir -p "$(dirname "$log")"
  : >"$log"
  set -m   # a process group of its own, so that stop_child reaches all of it, and Ctrl-C is not ignored in it
  timeout --foreground -k 10 "$limit" "$@" >"$log" 2>&1 </dev/null &
  step_child=$!
  set +m
  show_alive "$log" &
  ticker=$!
  wait "$step_child" || status=$?
  stop_child   # whatever it left behind
  kill "$ticker" 2>/dev/null || true
  wait "$ticker" 2>/dev/null || true
  [ ! -t 1 ] || printf '\r\033[K'
  [ "$status" != 0 ] || return 0
  printf '      failed with status %s: %s\n      --- the end of %s\n' "$status" "$*" "$log" >&2
  tail -n 40 "$log" >&2
  return "$status"
}

show_alive() {
  local clock line seconds=0
  exec {clock}<> <(:)   # a descriptor that never has anything to read: `read -t` on it sleeps without a process
  while :; do
    read -r -t 1 -u "$clock" || true
    seconds=$((seconds + 1))
    line=$(tail -n 1 "$1" | tr -d '\r')
    if [ -t 1 ]; then
      printf '\r\033[K      %.100s' "$line"
    elif ((seconds % 20 == 0)); then
      printf '      %3d s: %.100s\n' "$seconds" "$line"
    fi
  done
}

# stop_child: ends what quietly() is running; for traps
stop_child() {
  [ -n "$step_child" ] || return 0
  kill -TERM -- "-$step_child" 2>/dev/null || true
  step_child=
}

# build PRESET [TARGET...]: configures and compiles all, or the targets; the logs are in build/
build() {
  local preset=$1
  shift
  cd "$project" || return
  quietly "build/$preset-configure.log" 300 cmake --preset "$preset"
  quietly "build/$preset-build.log" 3000 cmake --build --preset "$preset" ${1:+--target "$@"}
}
