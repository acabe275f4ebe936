"""Attested TLS: certificates that carry a quote about their own key, on both sides of a connection.

platform ── attested_certificate ──> certificate + key ──> any TLS server or client
host:port ── fetch_peer ──> certificate ── verify_peer ──> who is there ── pinned contexts ──> httpx, grpc, ssl
"""
