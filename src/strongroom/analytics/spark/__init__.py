"""The Spark engine: parquet-mr decrypts natively; keys come from the broker to each attested process.

How the parts fit together: a process attests (`attested`), keeps the master keys and wraps and unwraps for its JVM over
a Unix socket (`key_server`; the Java side: `BrokerKmsClient`, `StrictCryptoFactory`). A driver is a Python process with
a JVM beside it (`driver`, `session`, `submit`). An executor attests and then becomes a JVM (`executor`); a standalone
worker starts it (`node`, `command`), or Kubernetes does (`pod`). What a cluster may set is in `settings`.
"""
