"""How a worker reads a source that is no file: over a socket of its own, whose other end the supervisor answers.

    the supervisor, once    SIZE     bytes of the source
    the worker              ASK      id, offset, length; an id is used again only when it was answered
    the supervisor          ANSWER   id, 0 or an errno, length; and so many bytes

Answers come in any order.
"""

import struct

SIZE = struct.Struct("!Q")
ASK = struct.Struct("!IQI")
ANSWER = struct.Struct("!III")
MOST_BYTES = 1 << 20  # asked for at once
MOST_ASKED = 32  # not yet answered
