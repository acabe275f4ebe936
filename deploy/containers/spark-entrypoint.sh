#!/bin/sh
# Starts a Spark driver or executor on Kubernetes as the workload that was authorized.
#
# What Spark's scheduler backend says, arguments and SPARK_* variables, goes into one variable: two lists in base64, a
# dot between. The workload's own command reads it there, and takes none of it unchecked. An enclave takes no other
# variable from its host.
set -eu

arguments="$(printf '%s\0' "$@" | base64 --wrap=0)"
variables="$(env --null | { grep --null-data '^SPARK_' || true; } | base64 --wrap=0)"
export STRONGROOM_SPARK_CALL="${arguments}.${variables}"
if [ -n "${STRONGROOM_ENCLAVE:-}" ]; then
  exec gramine-sgx "$STRONGROOM_ENCLAVE"
fi
exec strongroom workload run "$STRONGROOM_WORKLOAD"
