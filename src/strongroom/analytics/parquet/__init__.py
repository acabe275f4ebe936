"""Parquet Modular Encryption: bytes <-> objects, key material, and a decrypting view of a file."""
