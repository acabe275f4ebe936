"""Gramine's encrypted files: geometry, node cryptography, metadata node and paths. Pure: no file, no randomness.

A file is a sequence of 4096-byte nodes: the metadata node, then groups of one hash tree node and up to 96 data nodes.
Every node is AES-128-GCM under a key of its own; the keys and tags lie in the parent node, the root's in the metadata,
and the metadata's key derives from the wrap key. Files: `strongroom.room.files`.

Source: Gramine documentation, "Encrypted files"; gramine `common/src/protected_files`, releases 1.0 to 1.9.
"""
