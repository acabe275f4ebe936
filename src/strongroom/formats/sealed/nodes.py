"""Encrypting and decrypting tree and data nodes, one node or a group of up to 96 at a time.

AES-128-GCM with an all-zero IV and no associated data. That is safe only because every encryption has a fresh random
key: a key handed to these functions must never have been used before.

`NodeGroup` is where the time goes. Its memory is sliced once, so that the loop over the nodes does nothing but the two
calls into OpenSSL and the copy of a tag. AES-GCM in `cryptography` works on ciphertext and tag side by side, while
stored nodes lie without a gap; each tag is therefore put over (or appears in) the first bytes of the next node, which
is not yet written when encrypting forward and no longer needed when decrypting backward.
"""

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from strongroom.errors import Tampered
from strongroom.formats.sealed.geometry import DATA_PER_TREE_NODE, ENTRY_SIZE, GROUP_SIZE, KEY_SIZE, NODE_SIZE, TAG_SIZE

ZERO_IV: Final = bytes(12)
ALTERED: Final = "node {} of the sealed file fails its authentication: the file was altered"
ALTERED_HINT: Final = "fetch the file again from a good copy"


def seal_node(key: bytes, plaintext: bytes | bytearray) -> tuple[bytes, bytes]:
    """Encrypt one node.

    Args:
        key: 16 fresh random bytes, used for nothing else.
        plaintext: 4096 bytes.

    Returns:
        The stored node, 4096 bytes, and its entry for the parent, 32 bytes.
    """
    sealed = AESGCM(key).encrypt(ZERO_IV, plaintext, None)
    return sealed[:NODE_SIZE], key + sealed[NODE_SIZE:]


def open_node(entry: bytes, stored: bytes, position: int) -> bytes:
    """Decrypt one node.

    Args:
        entry: Its 32-byte entry in the parent.
        stored: The stored node, 4096 bytes.
        position: Number of the stored node, for the message.

    Returns:
        The plaintext, 4096 bytes.

    Raises:
        Tampered: If the node is not the one that was sealed.
    """
    try:
        return AESGCM(entry[:KEY_SIZE]).decrypt(ZERO_IV, stored + entry[KEY_SIZE:], None)
    except InvalidTag:
        raise Tampered(ALTERED.format(position), hint=ALTERED_HINT) from None


class NodeGroup:
    """Memory for up to 96 consecutive stored data nodes."""

    def __init__(self) -> None:
        memory = memoryview(bytearray(GROUP_SIZE + TAG_SIZE))
        starts = range(0, GROUP_SIZE, NODE_SIZE)
        self.stored = memory[:GROUP_SIZE]
        """The stored nodes, without a gap: fill it before `open`, take it after `seal`."""
        self._with_tag = [memory[at : at + NODE_SIZE + TAG_SIZE] for at in starts]
        self._tag = [memory[at + NODE_SIZE : at + NODE_SIZE + TAG_SIZE] for at in starts]

    def seal(self, keys: bytes, plaintext: memoryview) -> bytes:
        """Encrypt consecutive data nodes into `stored`.

        Args:
            keys: 16 fresh random bytes for each node.
            plaintext: A multiple of 4096 bytes, up to 96 nodes.

        Returns:
            The entries for the tree node, 32 bytes for each node.

        Raises:
            ValueError: If there is not exactly one key for each node.
        """
        nodes = len(plaintext) // NODE_SIZE
        if nodes * NODE_SIZE != len(plaintext) or nodes * KEY_SIZE != len(keys) or nodes > DATA_PER_TREE_NODE:
            raise ValueError("one key of 16 bytes for each of at most 96 nodes of 4096 bytes")
        entries: list[bytes] = []
        for slot in range(nodes):
            at = slot * NODE_SIZE
            key = keys[slot * KEY_SIZE : (slot + 1) * KEY_SIZE]
            AESGCM(key).encrypt_into(ZERO_IV, plaintext[at : at + NODE_SIZE], None, self._with_tag[slot])
            entries += (key, bytes(self._tag[slot]))
        return b"".join(entries)

    def open(self, entries: bytes, plaintext: memoryview, position: int) -> None:
        """Decrypt the first nodes of `stored`, whose content is lost.

        Args:
            entries: 32 bytes for each node, from the tree node.
            plaintext: Where to put the result, 4096 bytes for each node. Wiped if a node fails.
            position: Number of the first stored node, for the message.

        Raises:
            Tampered: If a node is not the one that was sealed; nothing of the group is handed out.
            ValueError: If `plaintext` does not have room for exactly the nodes of `entries`.
        """
        nodes = len(entries) // ENTRY_SIZE
        if nodes * NODE_SIZE != len(plaintext) or nodes > DATA_PER_TREE_NODE:
            raise ValueError("one entry of 32 bytes for each of at most 96 nodes of 4096 bytes")
        for slot in range(nodes - 1, -1, -1):
            at, entry = slot * NODE_SIZE, slot * ENTRY_SIZE
            self._tag[slot][:] = entries[entry + KEY_SIZE : entry + ENTRY_SIZE]
            gcm = AESGCM(entries[entry : entry + KEY_SIZE])
            try:
                gcm.decrypt_into(ZERO_IV, self._with_tag[slot], None, plaintext[at : at + NODE_SIZE])
            except InvalidTag:
                # OpenSSL writes before it checks: take back what nobody has authenticated.
                plaintext[:] = bytes(len(plaintext))
                raise Tampered(ALTERED.format(position + slot), hint=ALTERED_HINT) from None
