"""gRPC: transport only. Messages in, use cases called, messages out."""
