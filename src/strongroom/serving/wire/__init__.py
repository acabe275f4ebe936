"""Message classes of the wire protocols, made from compact tables when they are imported.

Everything lives in one descriptor pool of our own (`strongroom.serving.wire.describe.POOL`), so that a process which
also imports TensorFlow's or Triton's generated classes sees no clash.
"""
