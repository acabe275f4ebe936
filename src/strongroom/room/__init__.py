"""What runs inside the TEE: enter, open, create, and the broker's client."""

from strongroom.room.client import BrokerAddress, BrokerClient, BrokerSession
from strongroom.room.session import Identity, Room, enter_room

__all__ = ["BrokerAddress", "BrokerClient", "BrokerSession", "Identity", "Room", "enter_room"]
