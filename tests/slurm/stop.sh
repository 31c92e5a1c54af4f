#!/usr/bin/env bash
# Ends what start.sh started: stop.sh FOLDER. Jobs that still run are cancelled.
set -uo pipefail
folder=${1:?usage: stop.sh FOLDER}
export SLURM_CONF=$folder/slurm.conf PATH=$PATH:/usr/sbin

if [ -f "$folder/slurmctld.pid" ] && [ -n "$(timeout 10 squeue --noheader 2> /dev/null)" ]; then
    timeout 10 scancel --quiet --user="$(id -un)" 2> /dev/null
    sleep 0.5
fi
pids=()
for pid_file in slurmd.pid slurmctld.pid munge/pid; do
    pid=$(cat "$folder/$pid_file" 2> /dev/null) && kill "$pid" 2> /dev/null && pids+=("$pid")
done
# Their state is thrown away with the folder, so they need not take the time to save it.
for pid in "${pids[@]}"; do
    for _ in $(seq 10); do kill -0 "$pid" 2> /dev/null || break; sleep 0.1; done
    kill -9 "$pid" 2> /dev/null
done
exit 0
