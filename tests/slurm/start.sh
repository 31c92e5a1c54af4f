#!/usr/bin/env bash
# A Slurm of one node on loopback, for tests and trials: start.sh FOLDER
#
# Starts munged, slurmctld and slurmd as the current user with their configuration, state and logs in FOLDER, which
# has to be empty or absent, and prints the line that makes sbatch and its kin use them:
#
#     export SLURM_CONF=FOLDER/slurm.conf
#
# stop.sh FOLDER ends them. It must run as root, as slurmd does. Nothing is installed unless INSTALL=1, and then Debian's
# slurm-wlm and munge. CPUS is how many CPUs the node says that it has [default: this machine's].
set -euo pipefail

folder=${1:?usage: start.sh FOLDER}
missing=
for program in munged slurmctld slurmd sbatch squeue scancel; do
    PATH=$PATH:/usr/sbin command -v "$program" > /dev/null || missing="$missing $program"
done
if [ -n "$missing" ] && [ "${INSTALL:-}" = 1 ]; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update --quiet > /dev/null
    apt-get install --quiet --yes --no-install-recommends slurm-wlm munge > /dev/null
    missing=
fi
[ -z "$missing" ] || { echo "missing:$missing (Debian's slurm-wlm and munge; INSTALL=1 installs them)" >&2; exit 3; }
[ "$(id -u)" = 0 ] || { echo "slurmd needs root" >&2; exit 3; }
export PATH=$PATH:/usr/sbin

mkdir -p "$folder"
[ -z "$(ls -A "$folder")" ] || { echo "$folder is not empty" >&2; exit 2; }
folder=$(cd "$folder" && pwd)
mkdir -m 755 "$folder/munge" "$folder/state" "$folder/spool"
trap '"$(dirname "${BASH_SOURCE[0]}")/stop.sh" "$folder"' ERR

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

node=$(hostname -s)
(umask 077 && head -c 128 /dev/urandom > "$folder/munge/key")
munged --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" --pid-file="$folder/munge/pid" \
    --seed-file="$folder/munge/seed" --log-file="$folder/munge/log" --num-threads=2

cat > "$folder/slurm.conf" << CONF
ClusterName=strata
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CryptoType=crypto/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
# What a container without control groups can do.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
SwitchType=switch/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
KillWait=2
KillOnBadExit=1
MinJobAge=${MIN_JOB_AGE:-300}
InactiveLimit=0
# What the node says of itself is believed, more CPUs than the machine has too.
SlurmdParameters=config_overrides
NodeName=$node NodeAddr=127.0.0.1 CPUs=${CPUS:-$(nproc)} RealMemory=${MEMORY_MB:-2000} State=UNKNOWN
PartitionName=main Nodes=$node Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF=$folder/slurm.conf
slurmctld
slurmd
for _ in $(seq 100); do
    case $(sinfo --noheader --format=%T 2> /dev/null) in idle*|mixed*) ready=1; break ;; esac
    sleep 0.1
done
[ -n "${ready:-}" ] || { echo "the node did not come up; see $folder/slurmctld.log and slurmd.log" >&2; sinfo >&2; false; }
echo "export SLURM_CONF=$SLURM_CONF"
