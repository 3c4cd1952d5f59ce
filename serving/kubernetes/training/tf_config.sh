#!/bin/sh
# Writes TF_CONFIG from the number of this worker in its Job, and starts the command that was given.
#
# WORKERS, SERVICE and PORT come from the manifest, JOB_COMPLETION_INDEX from Kubernetes.
set -eu
: "${WORKERS:?number of workers}" "${SERVICE:?name of the Job and its headless Service}" "${PORT:?port of the workers}"
: "${JOB_COMPLETION_INDEX:?set by Kubernetes in a Job with completionMode: Indexed}"

workers=
index=0
while [ "$index" -lt "$WORKERS" ]; do
    workers="$workers${workers:+, }\"$SERVICE-$index.$SERVICE:$PORT\""
    index=$((index + 1))
done
TF_CONFIG="{\"cluster\": {\"worker\": [$workers]}, \"task\": {\"type\": \"worker\", \"index\": $JOB_COMPLETION_INDEX}}"
export TF_CONFIG
exec "$@"
