# shellcheck shell=bash
# Starting, waiting for and stopping the cluster's programs. A program is known by its pid together with
# its start time, so that a pid which the kernel has given to somebody else is never signalled.

# The start time of a pid in clock ticks since boot, field 22 of /proc/PID/stat; nothing if it is gone.
# The command name in that line may hold spaces and parentheses: cut after the last one.
start_time() {
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
  stat=${stat##*) }
  # shellcheck disable=SC2086 # split into fields on purpose; field 3 of the line is the first here
  set -- $stat
  # A zombie has ended; only its parent has not yet asked how.
  [[ $1 == Z ]] || printf '%s' "${20}"
}

# is_running NAME: true while the recorded process is the one that was started.
is_running() {
  [[ -f $PID_DIR/$1 ]] || return 1
  local pid started
  read -r pid started <"$PID_DIR/$1" || return 1
  [[ -n $started && $(start_time "$pid") == "$started" ]]
}

# start NAME COMMAND...: in a session of its own, output in $LOG_DIR/NAME.log, no inherited lock.
start() {
  local name=$1 pid
  shift
  if is_running "$name"; then return 0; fi
  mkdir -p "$PID_DIR" "$LOG_DIR"
  setsid "$@" </dev/null >>"$LOG_DIR/$name.log" 2>&1 8>&- 9>&- &
  pid=$!
  disown "$pid"
  printf '%s %s\n' "$pid" "$(start_time "$pid")" >"$PID_DIR/$name"
}

STOPPED=()   # pids that stop has ended

# stop NAME [SECONDS]: SIGTERM, then SIGKILL after that many seconds (default 5); waits for the exit.
stop() {
  local name=$1 patience=${2:-5} pid deadline
  [[ -f $PID_DIR/$name ]] || return 0
  if is_running "$name"; then
    read -r pid _ <"$PID_DIR/$name"
    kill -TERM "$pid" 2>/dev/null || true
    deadline=$((SECONDS + patience))
    while is_running "$name" && ((SECONDS < deadline)); do sleep 0.05; done
    if is_running "$name"; then kill -KILL "$pid" 2>/dev/null || true; fi
    deadline=$((SECONDS + 5))
    while is_running "$name" && ((SECONDS < deadline)); do sleep 0.05; done
    STOPPED+=("$pid")
  fi
  rm -f "$PID_DIR/$name"
}

# Some inits collect an ended process only after seconds; until then ps shows it as defunct.
wait_until_collected() {
  local pid deadline=$((SECONDS + 5))
  for pid in "${STOPPED[@]}"; do
    while [[ -d /proc/$pid ]] && ((SECONDS < deadline)); do sleep 0.05; done
  done
}

# wait_for WHAT PROGRAM SECONDS COMMAND...: polls until the command succeeds. If PROGRAM ends first, or
# the time is over, it shows the end of that program's log and fails.
wait_for() {
  local what=$1 program=$2 limit=$3 begin=$SECONDS
  shift 3
  until "$@" >/dev/null 2>&1; do
    if ! is_running "$program"; then
      show_log "$program"
      die "$program ended before $what"
    fi
    if ((SECONDS - begin >= limit)); then
      show_log "$program"
      die "$what did not happen within $limit s"
    fi
    sleep 0.1
  done
}

show_log() {
  printf '%s: the end of %s:\n' "$SCRIPT_NAME" "$LOG_DIR/$1.log" >&2
  tail -n 25 "$LOG_DIR/$1.log" 2>/dev/null | cut -c1-400 | sed 's/^/    /' >&2
}
