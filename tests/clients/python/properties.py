"""Properties by name, for paho-mqtt and what builds on it."""

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties


def properties(packet, **named):
    made = Properties(getattr(PacketTypes, packet))
    for name, value in named.items():
        setattr(made, name, value)
    return made
