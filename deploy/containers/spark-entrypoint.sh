#!/bin/sh
# Starts a Spark driver or executor with what Kubernetes' scheduler backend passes in.
# Source: Apache Spark, resource-managers/kubernetes/docker, entrypoint.sh (arguments and environment variables).
set -eu

classpath="${SPARK_HOME}/jars/*:/opt/spark/conf"
case "${1:-}" in
  driver)
    shift
    exec "${SPARK_HOME}/bin/spark-submit" --conf "spark.driver.bindAddress=${SPARK_DRIVER_BIND_ADDRESS}" \
      --deploy-mode client "$@"
    ;;
  executor)
    # One option a line: they may hold blanks.
    set --
    while IFS= read -r option; do
      test -z "$option" || set -- "$@" "$option"
    done <<OPTIONS
$(env | sed -n 's/^SPARK_JAVA_OPT_[0-9]*=//p')
OPTIONS
    exec "${JAVA_HOME}/bin/java" "$@" "-Xms${SPARK_EXECUTOR_MEMORY}" "-Xmx${SPARK_EXECUTOR_MEMORY}" -cp "$classpath" \
      org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend \
      --driver-url "${SPARK_DRIVER_URL}" --executor-id "${SPARK_EXECUTOR_ID}" --cores "${SPARK_EXECUTOR_CORES}" \
      --app-id "${SPARK_APPLICATION_ID}" --hostname "${SPARK_EXECUTOR_POD_IP}" \
      --resourceProfileId "${SPARK_RESOURCE_PROFILE_ID}" --podName "${SPARK_EXECUTOR_POD_NAME}"
    ;;
  *)
    echo "driver or executor?" >&2
    exit 2
    ;;
esac
