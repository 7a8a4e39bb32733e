"""Fewer attacks, for images that have a shell and no Python. Not imported inside the sandbox.

Each line says a check and whether it held. What a shell cannot try is not claimed: those checks
are absent from the report.
"""

SHELL_PROBE = r"""
canary=$1 outside=$2 pid=$3 token=$4
say() { if "$@"; then echo "$check 1"; else echo "$check 0"; fi; }
not() { ! "$@" 2>/dev/null; }
unwritable() { for one in / /usr /etc /dev "$outside"; do
  (: >"$one/x") 2>/dev/null && return 1; done; return 0; }
field() { while read -r name value; do
  [ "$name" = "$1:" ] && echo "$value" && return; done </proc/self/status; }
none() { case $1 in *[!0]*) return 1;; esac; }
few() { count=0; for one in /proc/[0-9]*; do count=$((count + 1)); done; [ "$count" -le 12 ]; }
clean() { for one in /proc/self/environ /proc/1/environ; do
  case $(cat "$one" 2>/dev/null | tr '\0' ' ') in *"$token"*) return 1;; esac; done; return 0; }
only_lo() { for one in /sys/class/net/*; do case $one in */lo | */\*) ;; *) return 1;; esac; done; }
: >proof
check=host_files_hidden; say not cat "$canary"
check=outside_unwritable; say unwritable
check=state_hidden; say not cat .peritus/canary
check=no_route; say only_lo
check=processes_hidden; say few
[ "$pid" = 0 ] || { check=processes_out_of_reach; say not kill -0 "$pid"; }
check=environment_clean; say clean
check=no_capabilities; say none "$(field CapEff)"
check=no_new_privileges; say [ "$(field NoNewPrivs)" = 1 ]
check=system_calls_filtered; say [ "$(field Seccomp)" = 2 ]
check=kernel_knobs_closed; say not eval ': >>/proc/sys/kernel/core_pattern'
"""
