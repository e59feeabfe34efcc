"""Devices: streams, events and memory behind one interface, simulated too; compiled models.

Nothing heavy is imported here: `engine.device.cuda` needs torch, and only who opens a device gets
it.
"""
