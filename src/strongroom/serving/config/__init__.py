"""Configuration: TensorFlow Serving's text protobuf files, our TOML, TLS material."""
