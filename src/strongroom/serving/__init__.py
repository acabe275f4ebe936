"""Model serving: TensorFlow Serving's API and the Open Inference Protocol V2, without TensorFlow.

    status      canonical status codes, what a caller is told
    wire        message classes made from compact tables at import; nothing generated is kept
    tensors     numpy <-> TensorProto, JSON rows and columns, V2 tensors, tf.Example
    engines     one small protocol; XGBoost, ONNX Runtime and OpenVINO behind it
    models      storage, versions, labels, life cycle, admission, batching
    inference   the use cases: predict, classify, regress, metadata, status, reload
    rpc, http   gRPC and REST: transport only
    config      options, text protobuf files, TLS material
    server      everything started, made ready, drained

An engine that belongs to another application (a loan bundle, say) is registered by whoever wires the server: this
package knows the `EngineMaker` protocol only.
"""
